"""The mesh codec: latents that mean the movement of a face, and frames made by moving the portrait's own pixels.

A pipeline component like a VAE, but what it decodes to is a *geometry video* (`GeometryLatent`) drawn onto the photo
(`Stage`): the picture's detail never passes through the latents, so it is never lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.latent import LATENT_CHANNELS, GeometryLatent
from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion, beginning_at
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.rig_shapes_field import closed_vertices
from avatar.codec.mesh.track import clip_geometry, lip_gap, portrait_geometry
from avatar.errors import NoFaceError
from avatar.face_mesh import canonical_vertices
from avatar.types import BBox, Face, HeadPose, Portrait, Stride

_TOKEN_GRID = (2, 2)  # quadrants of the latent: brows and pose, eyes / mid-face, mouth
_WIDEST_START = 1.6  # lip gap, canonical units; vowels reach about 1.5


class MeshCodec(ModelMixin, ConfigMixin):
    """Implements `avatar.types.Codec` for facial geometry.

    Attributes:
        stride: 4 video frames per latent frame; the face is one whole in space, so no stride there.
        channels: 16.
        fps: 25; the movement is coded at this rate.
    """

    stride = Stride(GROUP_FRAMES, 1, 1)
    channels = LATENT_CHANNELS
    fps = MOTION_FPS
    _keep_in_fp32_modules = ["latent"]  # the first frame is the photo only as far as the bases are exact

    @register_to_config
    def __init__(self, smooth_borders: bool = True) -> None:
        super().__init__()
        self.latent = GeometryLatent(smooth_borders=smooth_borders)

    def encode(self, frames: Iterable[np.ndarray]) -> torch.Tensor:
        """Footage of one person to latents.

        Args:
            frames: (H, W, 3) uint8 at 25 fps.

        Returns:
            [16, F, 4, 4] float32.

        Raises:
            NoFaceError: no face was found in any frame.
        """
        from avatar.identity.mediapipe_faces import thread_faces

        landmarks, found = thread_faces().track(frames)
        if not found.any():
            raise NoFaceError(
                "no face was found in any frame of the clip; a talking head that faces the camera is needed"
            )
        return self.latent.encode(clip_geometry(landmarks, found).motion)

    def encode_portrait(self, portrait: Portrait) -> torch.Tensor:
        """The latent frame [16, 1, 4, 4] a video of the portrait starts from: its own opening of the mouth.

        A scream is wider than anything speech does, and would keep the transformer from closing it; what goes beyond
        `_WIDEST_START` is left to `decode_motion`, which shows it in the first frame and lets it fade.
        """
        own = portrait_geometry(portrait.face).own_expression
        widest = float(lip_gap(own).max())
        return self.latent.encode(_still(own * min(1.0, _WIDEST_START / max(widest, 1e-6))))

    @staticmethod
    def felt_weights(shapes: Mapping[str, float]) -> np.ndarray:
        """Shape weights by name to (P,) float32 in the order of the rig's named shapes."""
        rig = default_rig()
        return rig.weights(1, **shapes)[0, : rig.num_named].clip(0, 1)

    def expression_of(self, face: Face) -> np.ndarray:
        """Weights (P,) float32 of the rig's named shapes that make the mean face look as this face does."""
        rig = default_rig()
        shape = portrait_geometry(face).shape.astype(np.float32)
        return rig.fit((shape - closed_vertices())[None])[0, : rig.num_named]

    @staticmethod
    def face_mask(num_frames: int) -> torch.Tensor:
        """Where sound acts on the transformer's token grid, (F, 2, 2) in [0, 1]: the lower half of the face."""
        mask = torch.zeros(num_frames, *_TOKEN_GRID)
        mask[:, 1] = 1
        return mask

    def decode_motion(self, latent_blocks: Iterable[torch.Tensor], portrait: Portrait) -> Iterator[MeshMotion]:
        """Blocks of latents [16, f, 4, 4] to blocks of motion that begins exactly at the portrait's own expression.

        What the first latent frame leaves out of that expression fades over the first `SETTLE_FRAMES`.
        """
        own = portrait_geometry(portrait.face).own_expression
        return beginning_at(own, self.latent.decode_blocks(latent_blocks))

    def decode(self, latent_blocks: Iterable[torch.Tensor], portrait: Portrait) -> Iterator[np.ndarray]:
        """Blocks of latents [16, f, 4, 4] to blocks of frames (T, H, W, 3) uint8, however they are cut."""
        stage = self.stage(portrait)
        for motion in self.decode_motion(latent_blocks, portrait):
            yield stage.render(motion)

    def warm_up(self) -> None:
        """Loads and compiles what the first portrait would otherwise wait for: the person finder and the renderer."""
        from avatar.identity.mediapipe_faces import thread_faces

        thread_faces().warm_up()
        size = 96
        landmarks = canonical_vertices() * (4, -4, -4) + size / 2
        face = Face(BBox(0, 0, size, size), landmarks.astype(np.float32), HeadPose(0, 0, 0))
        picture = np.full((size, size, 3), 128, np.uint8)
        stage = Stage(Portrait(picture, face), person_mask=np.ones((size, size), np.float32))
        stage.render(MeshMotion.zeros(1))

    def stage(self, portrait: Portrait, size_px: int | None = None) -> Stage:
        """Sets a portrait up for rendering, once; see `renderer.Stage`."""
        return Stage(portrait, size_px, others=portrait.others)


MeshCodec.__module__ = "avatar"  # the name saved pipelines know it by, so that the module may move


def _still(expression: np.ndarray) -> MeshMotion:
    """One frame with an expression and nothing else."""
    frame = MeshMotion.zeros(1)
    return MeshMotion(expression[None], frame.rotation, frame.translation, frame.gaze)
