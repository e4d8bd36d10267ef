"""Laws of the codec, on the one portrait of the repository."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.track import portrait_geometry
from avatar.errors import NoFaceError
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import Portrait, Stride


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    path = Path(__file__).parents[3] / "examples" / "astronaut.png"
    image = cv2.imread(str(path))[..., ::-1].copy()
    return Portrait(image, MediaPipeFaces().detect(image)[0])


@pytest.fixture(scope="module")
def codec() -> MeshCodec:
    return MeshCodec().eval()


@pytest.fixture(scope="module")
def latents(codec: MeshCodec, portrait: Portrait) -> torch.Tensor:
    """The portrait, then three seconds of chance."""
    first = codec.encode_portrait(portrait)
    return torch.cat([first, torch.randn(16, 19, 4, 4, generator=torch.Generator().manual_seed(0))], dim=1)


def _motion(codec: MeshCodec, portrait: Portrait, blocks: list[torch.Tensor]) -> MeshMotion:
    return MeshMotion.concatenate(list(codec.decode_motion(iter(blocks), portrait)))


def test_the_first_frame_is_the_photo(codec: MeshCodec, portrait: Portrait, latents: torch.Tensor) -> None:
    (frames,) = codec.decode(iter([latents[:, :2]]), portrait)
    assert frames.shape == (5, *portrait.image.shape) and frames.dtype == np.uint8
    difference = np.abs(frames[0].astype(int) - portrait.image)
    assert difference.mean() <= 0.01
    assert cv2.blur(difference.astype(np.float32), (8, 8)).max() <= 1  # nowhere a patch that differs


def test_motion_begins_exactly_at_the_photos_own_expression(
    codec: MeshCodec, portrait: Portrait, latents: torch.Tensor
) -> None:
    start = _motion(codec, portrait, [latents])[:1]
    own = portrait_geometry(portrait.face).own_expression
    assert np.abs(start.expression[0] - own).max() < 1e-4
    for rest in (start.rotation, start.translation, start.gaze):
        assert np.abs(rest).max() < 1e-5


@pytest.mark.parametrize("cuts", [[1, 1, 18], [7, 13], [2] * 10, [20]])
def test_decoded_in_blocks_equals_decoded_at_once(
    codec: MeshCodec, portrait: Portrait, latents: torch.Tensor, cuts: list[int]
) -> None:
    whole = _motion(codec, portrait, [latents])
    pieces = _motion(codec, portrait, list(torch.split(latents, cuts, dim=1)))
    assert len(whole) == len(pieces) == 1 + 4 * 19
    for name in ("expression", "rotation", "translation", "gaze"):
        assert np.allclose(getattr(whole, name), getattr(pieces, name), atol=1e-6), name


def test_frames_in_blocks_equal_frames_at_once(codec: MeshCodec, portrait: Portrait, latents: torch.Tensor) -> None:
    short = latents[:, :4]
    whole = np.concatenate(list(codec.decode(iter([short]), portrait)))
    pieces = np.concatenate(list(codec.decode(iter(torch.split(short, [1, 2, 1], dim=1)), portrait)))
    assert np.array_equal(whole, pieces)


def test_what_the_code_cannot_say_of_the_photo_fades_out_without_a_step(
    codec: MeshCodec, portrait: Portrait, latents: torch.Tensor
) -> None:
    still = latents[:, :1].expand(-1, 8, -1, -1)
    expression = _motion(codec, portrait, [still]).expression
    steps = np.abs(np.diff(expression, axis=0)).max(axis=(1, 2))
    unsaid = np.abs(expression[0] - expression[-1]).max()
    assert steps.max() < 0.2 * unsaid + 1e-4
    assert steps[-8:].max() < 1e-5


def test_sound_acts_on_the_lower_half_of_the_token_grid() -> None:
    mask = MeshCodec.face_mask(5)
    assert mask.shape == (5, 2, 2)
    assert mask[:, 0].max() == 0 and mask[:, 1].min() == 1


def test_stride_and_channels_are_the_latents_own(codec: MeshCodec, portrait: Portrait) -> None:
    assert codec.stride == Stride(4, 1, 1) and codec.fps == 25
    assert codec.encode_portrait(portrait).shape == (codec.channels, 1, 4, 4)


def test_the_expression_of_a_photo_is_fitted(codec: MeshCodec, portrait: Portrait) -> None:
    rig = default_rig()
    weights = codec.expression_of(portrait.face)
    assert weights.shape == (rig.num_named,) and weights.dtype == np.float32
    assert (weights >= rig.lower[: rig.num_named]).all() and (weights <= 1).all()
    smile = [weights[rig.index(f"mouth_smile_{side}")] for side in "lr"]
    assert min(smile) > 0.2  # she smiles broadly


def test_footage_becomes_latents_and_back(codec: MeshCodec, portrait: Portrait) -> None:
    stage = codec.stage(portrait)
    rig, opening = default_rig(), np.array([0, 0, 0.2, 0.5, 0.8, 0.5, 0.2, 0, 0], np.float32)
    still = MeshMotion.zeros(9)
    expression = stage.own_expression + rig.displacement(rig.weights(9, jaw_open=opening))
    frames = stage.render(MeshMotion(expression, still.rotation, still.translation, still.gaze))
    latents = codec.encode(iter(frames))
    assert latents.shape == (16, 3, 4, 4)
    decoded = codec.latent.decode(latents)
    gap = decoded.expression[:, 13, 1] - decoded.expression[:, 14, 1]
    assert gap[4] == gap.max() and gap[4] > gap[0] + 0.5


def test_footage_without_a_face_is_refused(codec: MeshCodec) -> None:
    with pytest.raises(NoFaceError, match="no face was found in any frame of the clip; a talking head"):
        codec.encode(np.full((2, 64, 64, 3), 128, np.uint8))


def test_saved_and_loaded_the_codec_is_the_same(codec: MeshCodec, portrait: Portrait, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    loaded = MeshCodec.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode_portrait(portrait), codec.encode_portrait(portrait))
