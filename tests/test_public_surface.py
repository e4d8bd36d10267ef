"""The public names: pinned, all there, and what diffusers needs at the package root."""

from __future__ import annotations

import importlib

import pytest

import avatar

PUBLIC = {
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
}


def test_the_public_names_are_pinned() -> None:
    assert set(avatar.__all__) == PUBLIC
    assert set(dir(avatar)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(avatar, name) is not None


@pytest.mark.parametrize(
    "name", ["AvatarTransformer3DModel", "AudioProjector", "IdentityEncoder", "EmotionEncoder", "OpeningEstimator"]
)
def test_diffusers_finds_the_model_classes_at_the_package_root(name: str) -> None:
    model_class = getattr(importlib.import_module("avatar"), name)
    assert model_class.__name__ == name
    assert callable(model_class.save_pretrained)
    assert callable(model_class.from_pretrained)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'AvatarPipline'"):
        avatar.AvatarPipline  # noqa: B018


def test_errors_carry_the_exit_code_their_kind_has() -> None:
    assert avatar.AvatarError.exit_code == 1
    assert avatar.InputError.exit_code == avatar.OptionError.exit_code == 2
    assert avatar.OutputError.exit_code == avatar.MissingDependencyError.exit_code == 1
