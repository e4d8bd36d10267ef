"""Who somebody is and what is felt, at Wan's size: adapters that read it, and the tokens they read.

*Identity* is a face's embedding in slices, each a token, for a residual adapter besides what Wan itself sees of the portrait.
*Emotion* is HunyuanVideo-Avatar's audio-emotion module (arXiv 2505.20156, eq. 3): a picture of an expression through the
codec, its latents to keys and values, queries per latent frame, after the sound, times a learnable gate that starts at 0.
Everything is asked in one currency, pictures: a label, or what a voice suggests, is *shown*, by the portrait's own face moved to
the label's expression. Fresh adapters change nothing; trained ones are part of the transformer, and saved with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.codec.wan import PATCH, WanCodec
from avatar.dit.adapters import AdapterConfig
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.labels import EmotionMix, shapes_of
from avatar.emotion.reference import parse_emotion
from avatar.errors import MissingDependencyError, OptionError
from avatar.identity.arcface import ArcFaceEmbedder
from avatar.identity.choose import load_portrait
from avatar.identity.crop import SquareCrop
from avatar.identity.protocols import IdentityEmbedder
from avatar.identity.tokens import FeatureEmbedder
from avatar.types import Portrait, Waveform

IdentitySource = Literal["features", "arcface"]
EMBEDDING_DIM = 512  # of both embedders
NUM_IDENTITY_TOKENS = 8  # rows of our own features
EMOTION_PX = 256  # side of the expression that the codec is shown
_FACE_SCALE = 1.4  # of the shown square to the face mesh


def attach_reference(
    transformer: WanTransformer3DModel,
    *,
    identity: bool | IdentitySource = True,
    emotion: bool = True,
    blocks: tuple[int, int] | None = None,
) -> AvatarTransformer3DModel:
    """Adds fresh identity and emotion adapters, which act after those that are there and change nothing yet.

    Args:
        transformer: any Wan transformer; an `AvatarTransformer3DModel` is changed, of another the weights are shared.
        identity: what identity tokens are made of: `"arcface"`, or `"features"`, which need no weights; True takes ArcFace
            where its package and weights are installed; False for no such adapter. The model remembers it.
        emotion: whether there is an emotion adapter.
        blocks: (first, last + 1) of the blocks that get them; None for all.

    Returns:
        The transformer with adapters.

    Raises:
        OptionError: neither adapter is asked for, or the transformer has one already.

    Source: HunyuanVideo-Avatar, arXiv 2505.20156, eq. 3 (emotion).
    """
    if not isinstance(transformer, AvatarTransformer3DModel):
        transformer = AvatarTransformer3DModel.from_wan(transformer)
    adapters = []
    if identity:
        made_of = identity if isinstance(identity, str) else _best_identity()
        adapters.append(
            AdapterConfig(
                "identity", "residual", EMBEDDING_DIM, masked=True, gated=True, blocks=blocks, made_of=made_of
            )
        )
    if emotion:
        token_dim = transformer.config.out_channels * PATCH**2
        adapters.append(
            AdapterConfig("emotion", "residual", token_dim, masked=True, gated=True, blocks=blocks, made_of="picture")
        )
    if not adapters:
        raise OptionError("attach_reference adds an identity adapter, an emotion adapter or both; not neither")
    transformer.attach_adapters([config.to_dict() for config in adapters])
    return transformer


def reference_adapters(transformer: AvatarTransformer3DModel) -> dict[str, AdapterConfig]:
    """The adapters for which this module makes tokens, by the tokens they read."""
    configs = [AdapterConfig.from_dict(dict(values)) for values in transformer.config.adapters]
    return {config.tokens: config for config in configs if config.made_of is not None}


def identity_embedder(made_of: str | None) -> IdentityEmbedder:
    """What identity tokens are made with.

    Raises:
        MissingDependencyError: ArcFace, which the adapter was trained with, is not installed.
    """
    return ArcFaceEmbedder() if made_of == "arcface" else FeatureEmbedder()


def identity_tokens(embedder: IdentityEmbedder, portrait: Portrait) -> Tensor:
    """A face as tokens [8, 512]: a slice of its embedding each, in its own place, so that one matrix serves all slices."""
    embedding = torch.from_numpy(embedder.embed(portrait)) * EMBEDDING_DIM**0.5  # numbers of about 1
    slices = embedding.unflatten(0, (NUM_IDENTITY_TOKENS, -1))
    return torch.block_diag(*slices)


def reference_tokens(
    codec: WanCodec,
    adapters: Mapping[str, AdapterConfig],
    people: Sequence[Portrait],
    sounds: Sequence[Waveform],
    emotion: str | Path | None,
) -> dict[str, Tensor]:
    """What a transformer's reference adapters are told, for `Conditioning`.

    Args:
        codec: of the model.
        adapters: `reference_adapters`.
        people: the speakers' faces.
        sounds: the speakers' voices.
        emotion: see `emotion_tokens`; None for none, and then the adapter rests.

    Returns:
        `identity_tokens` [1, S, 8, 512] and `emotion_tokens` [1, S, 1, N_e, 4 C], as far as they are asked for.

    Raises:
        OptionError: an emotion, and no adapter that would hear of it; or as `emotion_tokens`.
    """
    told = {}
    if "identity" in adapters:
        embedder = identity_embedder(adapters["identity"].made_of)
        told["identity_tokens"] = torch.stack([identity_tokens(embedder, person) for person in people])[None]
    if emotion is None:
        return told
    if "emotion" not in adapters:
        raise OptionError(
            f"emotion={str(emotion)!r} needs a transformer with an emotion adapter, and this one has none: train one "
            "(avatar.wan.reference.attach_reference), or say it in the prompt"
        )
    each = [emotion_tokens(codec, emotion, sound, person) for sound, person in zip(sounds, people, strict=True)]
    told["emotion_tokens"] = torch.stack(each)[None, :, None]
    return told


def emotion_tokens(codec: WanCodec, emotion: str | Path, speech: Waveform, portrait: Portrait) -> Tensor:
    """What is felt, as the codec sees it on a face, [N_e, 4 C]: a token for every 2 x 2 latent positions.

    Args:
        codec: of the model.
        emotion: a label, the path of a picture, or `"auto"`.
        speech: the voice, for `"auto"`.
        portrait: who shows a label.

    Raises:
        OptionError: neither a label nor a file.
        FaceError, MediaError: the picture cannot be used.
    """
    latents = codec.encode(codec.pixels(emotion_face(emotion, speech, portrait), (EMOTION_PX, EMOTION_PX)))
    patches = latents[:, 0].unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)  # (C, h, w, 2, 2)
    return patches.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)


def emotion_face(emotion: str | Path, speech: Waveform, portrait: Portrait) -> np.ndarray:
    """The face with the expression that is meant, upright, (256, 256, 3) uint8; arguments as for `emotion_tokens`."""
    said = parse_emotion(emotion, speech)
    if isinstance(said, Path):
        shown = load_portrait(said)
        image, landmarks = shown.image, shown.face.landmarks
    else:
        image, landmarks = acted(portrait, said), portrait.face.landmarks
    return SquareCrop.around_landmarks(landmarks, _FACE_SCALE).cut(image, EMOTION_PX)


def acted(portrait: Portrait, feeling: EmotionMix) -> np.ndarray:
    """The portrait with its face moved to the expression that labels stand for, lips closed otherwise, (H, W, 3) uint8."""
    rig, still = default_rig(), MeshMotion.zeros(1)
    expression = rig.displacement(rig.weights(1, **shapes_of(feeling.weights)))
    motion = MeshMotion(expression, still.rotation, still.translation, still.gaze)
    return Stage(portrait, others=portrait.others).render(motion)[0]


def _best_identity() -> IdentitySource:
    try:
        ArcFaceEmbedder()
    except MissingDependencyError:
        return "features"
    return "arcface"
