"""The sync scorers: the sign of the offset, offsets planted at 24, 25 and 30 fps, true sound told from strange, the loss."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from avatar.audio.loudness import loudness_per_frame
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.rig_shapes_field import closed_vertices
from avatar.data.clip_media import FaceTrack
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.sync.agreement import agreement, margin, strange_level
from avatar.data.sync.envelope import envelope_sync
from avatar.data.sync.lag_curve import OFFSETS, SyncResult, judge
from avatar.data.sync.lips import LIP_NUMBERS, lip_matrix, lip_numbers, tracked_lips
from avatar.data.sync.model import SyncModel, SyncModelConfig, cosines_by_offset, sync_loss
from avatar.data.sync.sound import per_frame, shipped_encoder, speech_per_frame
from avatar.errors import WeightsError
from avatar.face_mesh import to_picture_axes
from avatar.media import read_waveform
from avatar.types import Waveform

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PLANTED = (-12, -7, -2, 0, 3, 12)


@cache
def _sentence() -> Waveform:
    return read_waveform(EXAMPLES / "hello.wav")


@cache
def _heard() -> np.ndarray:
    return speech_per_frame(_sentence(), shipped_encoder())


@cache
def _puppet(fps: float = 25.0) -> np.ndarray:
    """(T, 478, 3) px at 25 fps: a jaw that follows the loudness, filmed at another rate and resampled by nearest frame."""
    frames = round(len(_sentence().samples) / 16_000 * fps)
    loud = loudness_per_frame(_sentence(), frames, fps)
    opening = gaussian_filter1d(np.sqrt(loud / loud.max()), 0.7)
    rig = default_rig()
    shapes = closed_vertices() + rig.displacement(rig.weights(frames, jaw_open=0.7 * opening))
    count = len(_heard())
    nearest = np.round(np.arange(count) * fps / 25).astype(int).clip(max=frames - 1)
    picture = to_picture_axes(shapes[nearest]) * 14 + np.array([300, 260, 0])
    return (picture + np.random.default_rng(0).normal(0, 0.15, picture.shape)).astype(np.float32)


def _early(samples: np.ndarray, frames: int) -> np.ndarray:
    """Sound made early by so many frames (late where negative), as long as before."""
    count = 640 * abs(frames)
    return np.pad(samples[count:], (0, count)) if frames > 0 else np.pad(samples, (count, 0))[: len(samples)]


class PuppetClip:
    """Enough of a ClipMedia for the scorer."""

    fps = 25.0

    def __init__(self, landmarks: np.ndarray, samples: np.ndarray | None, frames: np.ndarray | None = None) -> None:
        self.row: dict[str, object] = {}
        self.num_frames = len(landmarks)
        frames = np.arange(len(landmarks)) if frames is None else frames
        self._track = FaceTrack(frames.astype(np.int32), landmarks[frames])
        self._samples = samples

    def waveform(self) -> Waveform | None:
        return None if self._samples is None else Waveform(self._samples)

    def tracks(self) -> list[FaceTrack]:
        return [self._track]


@pytest.fixture(scope="module")
def scorer() -> Any:
    made = create_scorer("sync")
    made.setup()
    return made


def _score(scorer: Any, clip: PuppetClip) -> dict[str, Any]:
    values, error = score_clip(scorer, clip)  # type: ignore[arg-type]
    assert error is None, error
    return values


def test_a_positive_offset_means_that_the_audio_is_early_and_must_be_delayed(scorer: Any) -> None:
    early = _early(_sentence().samples, 6)
    values = _score(scorer, PuppetClip(_puppet(), early))
    assert values["sync_offset_frames"] >= 5 and values["sync_envelope_offset_ms"] == 240
    delayed = _early(early, -int(values["sync_offset_frames"]))
    assert abs(_score(scorer, PuppetClip(_puppet(), delayed))["sync_offset_frames"]) <= 1


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
def test_offsets_planted_into_a_puppet_are_found(scorer: Any, fps: float) -> None:
    puppet = _puppet(fps)
    base = _score(scorer, PuppetClip(puppet, _sentence().samples))
    assert base["sync_backend"] == "avatar-sync-3"
    # lips that follow loudness come after the sound, and people's before it: the model sees that
    assert 0 <= base["sync_offset_frames"] <= 3 and base["sync_envelope_offset_ms"] == 0
    for early in PLANTED:
        values = _score(scorer, PuppetClip(puppet, _early(_sentence().samples, early)))
        assert values["sync_offset_frames"] == base["sync_offset_frames"] + early
        assert values["sync_offset_ms"] == 40 * values["sync_offset_frames"]
        assert values["sync_envelope_offset_ms"] == 40 * early


def test_strange_sound_has_less_confidence_and_more_distance(scorer: Any) -> None:
    own = _score(scorer, PuppetClip(_puppet(), _sentence().samples))
    strange = np.resize(read_waveform(EXAMPLES / "rainbow.wav").samples[8000:], len(_sentence().samples))
    other = _score(scorer, PuppetClip(_puppet(), strange.astype(np.float32)))
    assert other["sync_conf"] < 0.9 * own["sync_conf"]  # the puppet is no speaker: docs/sync-scorer.md has people
    assert other["sync_dist"] > own["sync_dist"]
    assert other["sync_envelope_conf"] < own["sync_envelope_conf"]


def test_lost_frames_do_not_move_the_offset(scorer: Any) -> None:
    frames = np.array([k for k in range(len(_puppet())) if not 20 <= k < 30])
    whole = _score(scorer, PuppetClip(_puppet(), _sentence().samples))
    holed = _score(scorer, PuppetClip(_puppet(), _sentence().samples, frames))
    assert abs(holed["sync_offset_frames"] - whole["sync_offset_frames"]) <= 1
    assert whole["sync_n_windows"] - 11 <= holed["sync_n_windows"] < whole["sync_n_windows"]


def test_no_sound_silence_and_a_moment_are_null(scorer: Any) -> None:
    assert _score(scorer, PuppetClip(_puppet(), None)) == {}
    assert _score(scorer, PuppetClip(_puppet(), np.zeros(len(_sentence().samples), np.float32))) == {}
    assert _score(scorer, PuppetClip(_puppet()[:16], _sentence().samples[: 16 * 640])) == {}


def test_confidence_is_the_median_less_the_minimum() -> None:
    distances = np.abs(OFFSETS - 4) / 10
    result = judge(distances, np.full(31, 50))
    assert result is not None
    assert (result.offset_frames, result.distance, result.num_windows) == (4, 0.0, 50)
    assert result.confidence == np.median(distances)
    assert judge(np.full(31, np.nan), np.zeros(31, int)) is None


def test_agreement_is_likeness_and_a_little_of_the_loudness_at_the_model_s_own_offset() -> None:
    rng = np.random.default_rng(1)
    opening, found = rng.normal(size=80), np.ones(80, bool)
    loud = np.roll(opening, -3)  # lips of frame i belong to sound i - 3
    in_time, elsewhere = (SyncResult(offset, 0.2, 0.5, 77) for offset in (3, -8))
    assert agreement(in_time, opening, found, loud) == pytest.approx(1 - 0.5 + 0.08 - 0.31, abs=1e-3)
    assert agreement(elsewhere, opening, found, loud) < agreement(in_time, opening, found, loud) - 0.05
    assert agreement(in_time, opening, found, np.zeros(80)) == pytest.approx(1 - 0.5 - 0.31)


def test_a_short_clip_must_be_more_alike_than_a_long_one_for_the_same_margin() -> None:
    assert margin(SyncResult(3, 0.2, 0.5, 100)) == pytest.approx(0.5 - (0.22 + 0.076))
    levels = [strange_level(n) for n in (12, 50, 100, 250)]
    assert levels == sorted(levels, reverse=True) and levels[0] < 0.5 and levels[-1] > 0.25


@pytest.mark.parametrize("frames", [45, 90, 140])
def test_strange_noise_has_no_margin_at_any_length(frames: int) -> None:
    rng = np.random.default_rng(frames)
    model, margins = SyncModel.load(), []
    for _ in range(20):
        lips = gaussian_filter1d(rng.normal(size=(frames, 12)), 2, axis=0).astype(np.float32)
        first = int(rng.integers(0, len(_heard()) - frames))
        result = judge(*model.distances(_heard()[first : first + frames], lips, np.ones(frames, bool)))
        assert result is not None
        margins.append(margin(result))
    assert np.mean(margins) < 0.06


def test_the_envelope_scorer_finds_what_is_planted_among_gaps() -> None:
    rng = np.random.default_rng(0)
    loud = gaussian_filter1d(rng.normal(size=140), 1.5)
    found = rng.random(100) > 0.1
    for offset in PLANTED:
        lips = loud[20 - offset : 120 - offset]  # lips of frame i belong to sound i - offset
        result = envelope_sync(lips, found, loud[20:120])
        assert result is not None and result.offset_frames == offset
        assert result.distance == pytest.approx(0, abs=1e-9)


def test_turning_and_moving_the_head_does_not_move_the_lips() -> None:
    puppet = _puppet().astype(np.float64)
    still = tracked_lips(puppet, np.ones(len(puppet), bool))
    angle = np.deg2rad(25 * np.sin(np.arange(len(puppet)) / 9))
    turned = np.stack([p @ np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]]) * 1.7 + 40
                       for p, a in zip(puppet, angle, strict=True)])  # fmt: skip
    moved = tracked_lips(turned, np.ones(len(puppet), bool))
    assert still is not None and moved is not None
    assert np.abs(still - moved)[:, LIP_NUMBERS.index("opening")].max() < 0.05 * np.ptp(still[:, 0])


def test_lip_numbers_are_linear_and_the_same_in_numpy_and_torch() -> None:
    expression = np.random.default_rng(0).normal(size=(3, 478, 3)).astype(np.float32)
    by_hand = np.einsum("tpc,kpc->tk", expression, lip_matrix())
    np.testing.assert_allclose(lip_numbers(torch.from_numpy(expression)).numpy(), by_hand, atol=1e-5)
    opening = expression[:, [82, 13, 312], 1].mean(axis=1) - expression[:, [87, 14, 317], 1].mean(axis=1)
    np.testing.assert_allclose(by_hand[:, 0], opening, atol=1e-5)


def test_cosines_at_an_offset_compare_with_the_sound_that_much_before() -> None:
    torch.manual_seed(0)
    sound, lips = torch.randn(1, 40, 4), torch.randn(1, 40, 4)
    cosines, is_inside = cosines_by_offset(sound, lips)
    assert cosines[0, 20, 15 + 6] == pytest.approx(float(lips[0, 20] @ sound[0, 14]), rel=1e-5)
    assert not is_inside[3, 15 + 6] and is_inside[6, 15 + 6] and not is_inside[39, 15 - 1]


def test_the_loss_is_lower_for_lips_in_time_and_pulls_lips_there() -> None:
    model = SyncModel.load().requires_grad_(False)
    lips = tracked_lips(_puppet(), np.ones(len(_puppet()), bool))
    assert lips is not None
    features = torch.from_numpy(_heard()[: len(lips)])[None]
    motion = torch.from_numpy(lips)[None]
    in_time = torch.roll(motion, -2, dims=1)  # the puppet is two frames late
    late = torch.roll(in_time, 8, dims=1).requires_grad_()
    loss = sync_loss(model, late, features)
    assert sync_loss(model, in_time, features) < loss - 0.1
    loss.backward()
    assert late.grad is not None and torch.isfinite(late.grad).all() and late.grad.abs().sum() > 0
    with torch.no_grad():
        step = 0.05 * late.grad / late.grad.abs().max()
        assert sync_loss(model, late - step, features) < loss


def test_a_model_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SyncModel(SyncModelConfig(sound_dim=6, sound_components=4, width=8, embedding=4)).eval()
    model.save(tmp_path)
    again = SyncModel.load(tmp_path)
    x = torch.randn(1, 20, len(LIP_NUMBERS))
    assert torch.allclose(model.embed_lips(x), again.embed_lips(x), atol=2e-3)
    assert not again.training


def test_a_model_for_another_encoder_is_refused(tmp_path: Path) -> None:
    SyncModel(SyncModelConfig(sound_dim=6, encoder_sha256="0" * 64)).save(tmp_path)
    with pytest.raises(WeightsError, match=r"another speech encoder.*train_sync_scorer"):
        SyncModel.load(tmp_path)
    with pytest.raises(WeightsError, match="no sync model that fits"):
        SyncModel.load(tmp_path / "nothing")


def test_two_features_make_a_frame() -> None:
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(per_frame(features), [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_the_shipped_weights_are_small() -> None:
    folder = Path(__file__).resolve().parents[3] / "avatar" / "weights" / "sync"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
