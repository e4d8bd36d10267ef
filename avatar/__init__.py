"""A portrait and a voice go in; a video of that person saying it comes out.

Public names are looked up on first use (PEP 562), so that `import avatar` and `avatar --help` stay quick: torch,
diffusers and mediapipe are imported by the modules that need them. The model classes are public here because
diffusers writes `["avatar", "ClassName"]` into `model_index.json` and looks the class up at the package root.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from avatar.errors import (
    AvatarError,
    FaceError,
    InputError,
    MediaError,
    MissingDependencyError,
    OptionError,
    OutputError,
)

if TYPE_CHECKING:
    from avatar.audio.opening import OpeningEstimator
    from avatar.audio.projector import AudioProjector
    from avatar.clip import VideoClip
    from avatar.codec.mesh.codec import MeshCodec
    from avatar.dit.transformer import AvatarTransformer3DModel
    from avatar.emotion.tokens import EmotionEncoder
    from avatar.identity.tokens import IdentityEncoder
    from avatar.pipeline import AvatarPipeline
    from avatar.types import BBox, Face, Portrait, VideoShape, Waveform

__version__ = "0.1.0"

_HOME = {
    "AvatarPipeline": "avatar.pipeline",
    "AvatarTransformer3DModel": "avatar.dit.transformer",
    "AudioProjector": "avatar.audio.projector",
    "EmotionEncoder": "avatar.emotion.tokens",
    "IdentityEncoder": "avatar.identity.tokens",
    "MeshCodec": "avatar.codec.mesh.codec",
    "OpeningEstimator": "avatar.audio.opening",
    "ModelMixin": "diffusers",  # diffusers looks here for the base class by which it may load our components
    "BBox": "avatar.types",
    "Face": "avatar.types",
    "Portrait": "avatar.types",
    "VideoClip": "avatar.clip",
    "VideoShape": "avatar.types",
    "Waveform": "avatar.types",
}

__all__ = [
    "AudioProjector",
    "AvatarError",
    "AvatarPipeline",
    "AvatarTransformer3DModel",
    "BBox",
    "EmotionEncoder",
    "Face",
    "FaceError",
    "IdentityEncoder",
    "InputError",
    "MediaError",
    "MeshCodec",
    "MissingDependencyError",
    "OpeningEstimator",
    "OptionError",
    "OutputError",
    "Portrait",
    "VideoClip",
    "VideoShape",
    "Waveform",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'avatar' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
