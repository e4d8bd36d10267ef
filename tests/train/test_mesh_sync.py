"""The sync scorer as a part of the loss."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.sync.lips import lip_numbers
from avatar.data.sync.model import SyncModel, SyncModelConfig
from avatar.errors import OptionError
from avatar.train import mesh_task
from avatar.train.mesh_sync import MIN_LATENT_FRAMES, SyncTerm
from avatar.train.mesh_task import MeshNetworks

FRAMES = MIN_LATENT_FRAMES


@pytest.fixture(scope="module")
def term() -> SyncTerm:
    torch.manual_seed(0)
    return SyncTerm(4, SyncModel(SyncModelConfig(sound_dim=8, sound_components=6, width=8, embedding=4)))


def test_the_lips_are_read_off_the_latents(term: SyncTerm) -> None:
    frames = 4 * FRAMES
    rig, still = default_rig(), MeshMotion.zeros(frames + 1)
    weights = rig.weights(frames + 1, jaw_open=np.linspace(0, 0.8, frames + 1))
    motion = MeshMotion(rig.displacement(weights), still.rotation, still.translation, still.gaze)
    latents = GeometryLatent().encode(motion)[None, :, 1:]
    read = (latents.permute(0, 2, 1, 3, 4).flatten(2) @ term.matrix).unflatten(2, (4, -1)).flatten(1, 2)[0]
    true = lip_numbers(torch.from_numpy(motion.expression[1:]))
    assert torch.allclose(read, true, atol=0.03)


def test_gradients_reach_the_latents_and_not_the_model(term: SyncTerm) -> None:
    latents = torch.randn(2, 16, FRAMES, 4, 4, requires_grad=True)
    term(latents, torch.randn(2, FRAMES, 16, 4)).mean().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    assert all(value.grad is None for value in term.model.parameters())


def test_each_clip_has_its_own_figure(term: SyncTerm) -> None:
    """Else the report would show the batch's mean in every cell."""
    latents, windows = torch.randn(3, 16, FRAMES, 4, 4), torch.randn(3, FRAMES, 16, 4)
    each = term(latents, windows)
    assert each.shape == (3,) and each.std() > 1e-4
    assert torch.allclose(each[1:2], term(latents[1:2], windows[1:2]), atol=1e-5)


def test_validation_tells_sync_wherever_the_scorer_can_judge_and_training_does_not(
    monkeypatch: pytest.MonkeyPatch, term: SyncTerm
) -> None:
    monkeypatch.setattr(mesh_task, "validation_sync", lambda margin, device: term)
    networks = SimpleNamespace(
        sync=None, training=False, audio_projector=SimpleNamespace(config=SimpleNamespace(margin_features=4))
    )

    def told(frames: int = FRAMES, features: int = 4) -> torch.Tensor | None:
        windows = torch.randn(2, frames, 16, features)
        return MeshNetworks._sync_of(networks, torch.randn(2, 16, frames, 4, 4), windows)  # type: ignore[arg-type]

    figure = told()
    assert figure is not None and figure.shape == (2,)
    assert told(frames=5) is None and told(features=3) is None
    networks.training = True
    assert told() is None


def test_what_it_cannot_judge_is_refused(term: SyncTerm) -> None:
    with pytest.raises(OptionError, match=f"data.latent_frames of {FRAMES} or more, not 5"):
        term(torch.randn(1, 16, 5, 4, 4), torch.randn(1, 5, 16, 4))
    with pytest.raises(OptionError, match="the shipped speech encoder's, not 3"):
        term(torch.randn(1, 16, FRAMES, 4, 4), torch.randn(1, FRAMES, 16, 3))
