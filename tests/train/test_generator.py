"""Training the motion generator: resumable to the bit, its data and its loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.synthetic.faces import random_face
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.labels import EMOTIONS
from avatar.errors import OptionError
from avatar.face_mesh import INNER_LIP_PAIRS
from avatar.identity.features import geometry_features
from avatar.train import generator as training
from avatar.train.generator import Generator, GeneratorRecipe, LipGap, MotionCrops, generator_loss, train_generator
from avatar.train.motion_cache import MotionItem

RECIPE = GeneratorRecipe(
    steps=4, noisy_steps=1, batch_size=2, latent_frames=5, context_frames=2, warmup_steps=2, hidden_size=64, num_layers=1,
    ffn_dim=32, feature_dim=16, token_dim=16,
)  # fmt: skip
NUM_FRAMES = 60


@pytest.fixture(scope="module")
def items() -> list[MotionItem]:
    rig, made = default_rig(), []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        t = np.arange(NUM_FRAMES) / 25
        weights = rig.weights(NUM_FRAMES, jaw_open=0.3 + 0.3 * np.sin(8 * t + seed))
        labels = np.eye(len(EMOTIONS), dtype=np.float32)[seed]
        made.append(
            MotionItem(
                features=rng.normal(size=(2 * NUM_FRAMES, 16)).astype(np.float16),
                weights=weights.astype(np.float16),
                rotation=(0.02 * rng.normal(size=(NUM_FRAMES, 3))).astype(np.float16),
                labels=labels,
                expression=np.zeros(rig.num_named, np.float32),
                identity=geometry_features(random_face(rng)[0]),
            )
        )
    return made


@pytest.fixture(scope="module")
def latent() -> GeometryLatent:
    return GeometryLatent()


class Killed(Exception):
    pass


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return AvatarTransformer3DModel.from_pretrained(folder / "transformer").state_dict()


def test_a_killed_run_goes_on_bit_exactly(
    items: list[MotionItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LOG_STEPS", 2)
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    whole = _weights(train_generator(items, tmp_path / "whole", RECIPE, held_out=items))

    save = training.save_checkpoint

    def save_and_die(path: Path, *rest: object) -> None:
        save(path, *rest)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        train_generator(items, tmp_path / "parts", RECIPE, held_out=items)
    monkeypatch.setattr(training, "save_checkpoint", save)
    torch.manual_seed(99)
    resumed = _weights(train_generator(items, tmp_path / "parts", RECIPE, held_out=items))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    with pytest.raises(OptionError, match="made with other values of lip_weight"):
        train_generator(items, tmp_path / "parts", replace(RECIPE, lip_weight=2.0), held_out=items)


def test_a_batch_is_a_function_of_seed_and_step(items: list[MotionItem], latent: GeometryLatent) -> None:
    one, same, other = (MotionCrops(items, RECIPE, latent).batch(step) for step in (3, 3, 4))
    assert torch.equal(one.latents, same.latents) and torch.equal(one.windows, same.windows)
    assert not torch.equal(one.windows, other.windows)


def test_noise_on_the_features_is_of_many_strengths_and_touches_nothing_else(
    items: list[MotionItem], latent: GeometryLatent
) -> None:
    recipe = replace(RECIPE, batch_size=32, noisy_steps=RECIPE.steps, feature_noise=2.0)
    clean, noisy = (MotionCrops(items, recipe, latent, augment=augment).batch(0) for augment in (False, True))
    assert torch.equal(clean.latents, noisy.latents) and torch.equal(clean.clean_frames, noisy.clean_frames)
    strength = (noisy.windows - clean.windows).flatten(1).std(dim=1)  # the features' own spread is 1
    assert strength.min() < 0.3 and 1.5 < strength.max() < 2.1 and 0.7 < strength.mean() < 1.3


def test_only_the_last_steps_are_noisy_and_learn_more_slowly(items: list[MotionItem], latent: GeometryLatent) -> None:
    recipe = replace(RECIPE, steps=1200, noisy_steps=200, warmup_steps=40)
    noisy, clean = MotionCrops(items, recipe, latent), MotionCrops(items, recipe, latent, augment=False)
    assert torch.equal(noisy.batch(999).windows, clean.batch(999).windows)
    assert not torch.equal(noisy.batch(1000).windows, clean.batch(1000).windows)
    factors = [training._rate_factor(step, recipe) for step in range(1200)]
    assert max(factors[:1000]) == 1.0 and factors[999] < 0.03
    assert max(factors[1000:]) == pytest.approx(0.3) and factors[-1] < 0.01


def test_batches_have_the_shapes_the_networks_take(items: list[MotionItem], latent: GeometryLatent) -> None:
    crops = MotionCrops(items, replace(RECIPE, batch_size=16), latent)
    batch = crops.batch(0)
    rig = default_rig()
    assert batch.latents.shape == (16, 16, 5, 4, 4)
    assert batch.windows.shape == (16, 5, 16, 16)
    assert batch.labels.shape == (16, 5, 8) and batch.expression.shape == (16, 5, rig.num_named)
    assert set(batch.clean_frames.tolist()) == {1, 2}
    unknown = batch.labels.isnan().all(-1).all(-1)
    assert unknown.any() and not unknown.all()


def test_sound_and_motion_of_a_crop_belong_together(items: list[MotionItem], latent: GeometryLatent) -> None:
    """Features that say their own time must come out at the time of the motion beside them."""
    rig = default_rig()
    opening = np.arange(NUM_FRAMES) / NUM_FRAMES
    item = replace(
        items[0],
        features=np.repeat(np.arange(2 * NUM_FRAMES, dtype=np.float16)[:, None], 16, axis=1),
        weights=rig.weights(NUM_FRAMES, jaw_open=opening).astype(np.float16),
    )
    lips = LipGap(latent)
    full = float(
        lips(latent.encode_rig(rig.weights(1, jaw_open=1.0), *_still(1), latent.rig_matrix(rig))[None])[0, 0, 4]
    )
    batch = MotionCrops([item], replace(RECIPE, batch_size=8), latent, augment=False).batch(0)
    frames = lips(batch.latents).unflatten(2, (4, 9))[..., 4] / full * NUM_FRAMES  # (B, F, 4): which frame this is
    centres = batch.windows[:, 1:, 7:9, 0].mean(-1)  # (B, F - 1): the feature in the middle of each window
    expected = 2 * frames[:, 1:].mean(-1) + 0.5
    assert torch.allclose(centres, expected, atol=1.0)


def _still(num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    zeros = np.zeros((num_frames, 3), np.float32)
    return zeros, zeros, zeros[:, :2]


def test_the_lip_read_out_is_the_meshs_own_gap(latent: GeometryLatent) -> None:
    rig = default_rig()
    weights = rig.weights(9, jaw_open=np.linspace(0, 0.8, 9))
    still = MeshMotion.zeros(9)
    motion = MeshMotion(rig.displacement(weights), still.rotation, still.translation, still.gaze)
    latents = latent.encode(motion)
    smooth = GeometryLatent(smooth_borders=False).decode(latents).expression
    upper, lower = ([pair[k] for pair in INNER_LIP_PAIRS] for k in (0, 1))
    gap = torch.from_numpy(smooth[:, upper, 1] - smooth[:, lower, 1])
    read = LipGap(latent)(latents[None])[0].unflatten(1, (4, 9)).flatten(0, 1)[3:]
    assert torch.allclose(read, gap, atol=1e-4)


def test_the_loss_is_blind_to_nothing_but_clean_frames(items: list[MotionItem], latent: GeometryLatent) -> None:
    model, lips = Generator(RECIPE).eval(), LipGap(latent)
    batch = MotionCrops(items, RECIPE, latent).batch(0)
    with torch.no_grad():
        one, same, other = (generator_loss(model, batch, lips, RECIPE, seed) for seed in (0, 0, 1))
    assert one == same and one != other
    assert one.isfinite() and one > 0


def test_the_loss_is_zero_for_a_network_that_knows_the_answer(
    items: list[MotionItem], latent: GeometryLatent, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lips = Generator(RECIPE).eval(), LipGap(latent)
    batch = MotionCrops(items, RECIPE, latent).batch(0)

    def oracle(noisy: torch.Tensor, timestep: torch.Tensor, conditioning: object) -> object:
        sigma = (timestep / 1000).clamp_min(1e-6)[:, None, :, None, None]
        return type("Output", (), {"sample": (noisy - batch.latents) / sigma})

    monkeypatch.setattr(model.transformer, "forward", oracle)
    assert generator_loss(model, batch, lips, RECIPE, 0) < 1e-6


def test_the_trained_networks_are_the_pipelines_components(items: list[MotionItem], tmp_path: Path) -> None:
    folder = train_generator(items, tmp_path, replace(RECIPE, steps=1), held_out=items)
    assert sorted(path.name for path in folder.iterdir()) == [
        "audio_projector", "emotion_encoder", "identity_encoder", "transformer"
    ]  # fmt: skip
