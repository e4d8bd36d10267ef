"""SyncNet: shapes, sound features against python_speech_features, distances against a loop, planted offsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.data.clip_media import FaceTrack
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.syncnet import boxes_over_clip
from avatar.data.sync.lag_curve import MAX_OFFSET_FRAMES, OFFSETS, judge
from avatar.data.sync.mfcc import mfcc
from avatar.data.sync.syncnet import SIDE_PX, SyncNet, crop_faces, distances, embed_clip, load_syncnet
from avatar.errors import MissingDependencyError, WeightsError
from avatar.types import Waveform

# python_speech_features 0.6: mfcc(_chirp().astype(int16).astype(float), 16000)[[0, 7, -1]]
PSF = [
    [18.1255, 6.8848, 2.9697, 6.7108, -56.4775, -22.14, 14.4708, -27.0742, 26.8343, 40.6672, -17.7324, 8.4807, -3.4942],
    [18.9667, 18.8381, -6.6281, 13.1797, -28.9392, 1.3032, 45.8736, -12.066, 1.7662, -12.2526, -73.647, -29.8064, -15.0008],
    [18.6455, 3.7656, -21.7855, -9.8715, -26.2264, 27.4307, 48.2938, -26.3806, -14.6297, -4.9484, -25.5863, 25.4823, 15.9133],
]  # fmt: skip


def _chirp() -> np.ndarray:
    t = np.arange(3000) / 16000
    return np.round(
        9000 * np.sin(2 * np.pi * 220 * t) * np.hanning(3000)
        + 3000 * np.sin(2 * np.pi * (500 + 1500 * t) * t)
        + 500 * np.sin(2 * np.pi * 3300 * t)
    )


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(32).eval()


def test_cepstra_are_those_of_python_speech_features() -> None:
    cepstra = mfcc(_chirp())
    assert cepstra.shape == (18, 13)
    np.testing.assert_allclose(cepstra[[0, 7, -1]], PSF, atol=2e-4)


def test_silence_has_finite_cepstra() -> None:
    assert np.isfinite(mfcc(np.zeros(900))).all()


def test_both_towers_end_in_one_space(network: SyncNet) -> None:
    with torch.inference_mode():
        sound = network.embed_sound(torch.randn(3, 1, 13, 20))
        faces = network.embed_faces(torch.rand(1, 3, 5, SIDE_PX, SIDE_PX) * 255)
    assert sound.shape == (3, 32) and faces.shape == (1, 32)


def test_the_published_network_has_its_parameters() -> None:
    """The keys and sizes that joonson/syncnet_python's state dict has (commit 1fbfc08)."""
    state = SyncNet().state_dict()
    assert state["netcnnaud.0.weight"].shape == (64, 1, 3, 3)
    assert state["netcnnaud.18.weight"].shape == (512, 256, 5, 4)
    assert state["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7)
    assert state["netcnnlip.18.weight"].shape == (512, 256, 1, 6, 6)
    assert state["netfcaud.3.weight"].shape == state["netfclip.3.weight"].shape == (1024, 512)


def test_what_is_embedded_does_not_depend_on_the_batch(network: SyncNet) -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (8, SIDE_PX, SIDE_PX, 3), np.uint8)
    speech = Waveform(rng.normal(0, 0.1, 8 * 640).astype(np.float32))
    one, several = (embed_clip(network, faces, speech, size) for size in (1, 3))
    assert one[0].shape == (3, 32)  # frames less five, as published
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_distances_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    seen, heard = rng.normal(size=(2, 40, 8))
    expected = []
    for offset in OFFSETS:
        total = 0.0
        for i in range(40):
            there = i - offset
            sound = heard[there] if 0 <= there < 40 else np.zeros(8)
            total += float(np.sqrt(((seen[i] - sound + 1e-6) ** 2).sum()))
        expected.append(total / 40)
    np.testing.assert_allclose(distances(seen, heard), expected)


@pytest.mark.parametrize("early", [-12, -3, 0, 7, 12])
def test_a_planted_offset_is_found_with_its_sign(early: int) -> None:
    heard = np.random.default_rng(2).normal(size=(90, 16))
    seen = heard[:75]  # lips of frame i belong to sound i
    start = MAX_OFFSET_FRAMES
    shifted = heard[
        start + early : start + early + 60
    ]  # the sound made early: frame i sounds as frame i + early should
    result = judge(distances(seen[start:], shifted), np.full(31, 60))
    assert result is not None and result.offset_frames == early
    assert result.distance < 0.5 * (result.distance + result.confidence)


def test_the_face_is_cut_out_as_published() -> None:
    frames = np.zeros((3, 100, 200, 3), np.uint8)
    frames[:, 40:60, 90:110] = 255
    faces = crop_faces(frames, np.tile([90.0, 40.0, 110.0, 60.0], (3, 1)))
    assert faces.shape == (3, SIDE_PX, SIDE_PX, 3)
    bright = np.argwhere(faces[0, ..., 0] > 127)  # the box: 20 of 28 px, at the top of the crop, in its middle
    top, left = bright.min(axis=0) / SIDE_PX
    bottom, right = bright.max(axis=0) / SIDE_PX
    np.testing.assert_allclose([top, bottom, left, right], [0, 20 / 28, 4 / 28, 24 / 28], atol=0.02)
    assert (crop_faces(frames, np.tile([0.0, 0.0, 30.0, 30.0], (3, 1)))[0, :, :5] == 110).all()


def test_boxes_are_filled_in_where_the_face_was_lost() -> None:
    points = np.zeros((2, 478, 3), np.float32)
    points[0, 1:, :2], points[1, 1:, :2], points[1, 0, :2] = (20, 40), (60, 80), (40, 40)
    boxes = boxes_over_clip(FaceTrack(np.array([1, 3], np.int32), points), 5, 0.5)
    np.testing.assert_allclose(boxes[2], [10, 10, 20, 30])
    np.testing.assert_allclose(boxes[4], [20, 20, 30, 40])


def test_weights_load_from_a_path_and_others_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SyncNet(16)
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    loaded = load_syncnet(tmp_path / "syncnet_v2.model")
    assert torch.equal(loaded.netfcaud[3].weight, network.netfcaud[3].weight)
    torch.save({"layers.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="syncnet_v2"):
        load_syncnet(tmp_path / "other.pth")


def test_missing_weights_are_named_with_what_to_fetch() -> None:
    with pytest.raises(MissingDependencyError, match=r"syncnet_v2\.model.*lipsync"):
        create_scorer("syncnet").setup()


@pytest.mark.slow
def test_the_scorer_fills_its_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    torch.manual_seed(2)
    torch.save(SyncNet(16).state_dict(), tmp_path / "syncnet_v2.model")
    scorer = create_scorer("syncnet", {"weights": tmp_path / "syncnet_v2.model"})
    scorer.setup()

    class Clip:
        fps, scale = 25.0, 1.0
        row: dict[str, object] = {}

        def frames(self) -> np.ndarray:
            return np.zeros((40, 32, 32, 3), np.uint8)

        def waveform(self) -> Waveform:
            return Waveform(rng.normal(0, 0.1, 40 * 640).astype(np.float32))

        def tracks(self) -> list[FaceTrack]:
            points = np.tile(rng.uniform(8, 24, (478, 3)).astype(np.float32), (40, 1, 1))
            return [FaceTrack(np.arange(40, dtype=np.int32), points)]

    values, error = score_clip(scorer, Clip())  # type: ignore[arg-type]
    assert error is None
    assert values["sync_backend"] == "syncnet" and values["sync_n_windows"] == 35
    assert values["sync_offset_ms"] == 40 * values["sync_offset_frames"]
