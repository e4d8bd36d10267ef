from __future__ import annotations

import numpy as np
import pytest

from avatar.data.scorers.fingerprints import audio_print, frame_hashes, mirrored, motion_print
from avatar.types import Waveform


def picture(seed: int = 0) -> np.ndarray:
    import cv2

    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (7, 9, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)


def bits(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.unpackbits((one ^ other).view(np.uint8)).sum())


def test_the_hash_of_a_mirrored_frame_is_known_from_the_frames_own() -> None:
    frames = np.stack([picture(i) for i in range(6)])
    assert bits(mirrored(frame_hashes(frames)), frame_hashes(frames[:, :, ::-1])) <= 2
    assert bits(frame_hashes(frames), frame_hashes(frames[:, :, ::-1])) > 100
    assert np.array_equal(mirrored(mirrored(frame_hashes(frames))), frame_hashes(frames))


def test_the_hash_knows_no_size_and_no_brightness() -> None:
    import cv2

    frame = picture()
    small = cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA)
    dim = (frame * 0.6).astype(np.uint8)
    own = frame_hashes(frame[None])
    assert bits(own, frame_hashes(small[None])) <= 2
    assert bits(own, frame_hashes(dim[None])) <= 2
    assert bits(own, frame_hashes(picture(1)[None])) > 16


@pytest.mark.parametrize("part", [0.9, 0.8])
def test_the_hash_of_the_middle_is_that_of_the_cropped_frame(part: float) -> None:
    frame = picture()
    top, left = round(240 * (1 - part) / 2), round(320 * (1 - part) / 2)
    cut = frame[top : 240 - top, left : 320 - left]
    assert bits(frame_hashes(frame[None], part), frame_hashes(cut[None])) == 0


def test_motion_is_measured_where_and_when_it_happens_and_a_mirror_changes_nothing() -> None:
    frames = np.full((50, 64, 64, 3), 100, np.uint8)
    frames[26::2, 48:] = 160  # the lowest quarter flickers in the second half
    motion = motion_print(frames).astype(int)
    assert motion.shape == (25, 4)
    assert motion[20, 3] > motion[5, 3] + 50 and motion[20, 0] == motion[5, 0]
    assert np.array_equal(motion, motion_print(frames[:, :, ::-1]))


def test_sound_codes_survive_another_level_and_are_zero_in_silence() -> None:
    rng = np.random.default_rng(0)
    tones = np.repeat(rng.uniform(300, 2800, 24), 2000)
    samples = (0.3 * np.sin(2 * np.pi * np.cumsum(tones) / 16_000)).astype(np.float32)
    codes = audio_print(Waveform(samples))
    assert np.array_equal(codes, audio_print(Waveform(samples * 0.25)))
    assert len(np.unique(codes)) > 10
    assert not audio_print(Waveform(np.zeros(32_000, np.float32))).any()
    assert len(audio_print(Waveform(np.zeros(10, np.float32)))) > 0
