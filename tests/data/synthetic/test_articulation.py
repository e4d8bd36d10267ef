"""What lips and jaw do while phones are spoken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar.data.synthetic.articulation import _LIP_LEAD_S, SpeakingStyle, aperture, articulate, phone_frames
from avatar.data.synthetic.phones import CHANNELS, PHONE_INDEX, PHONE_NAMES, SILENCE
from avatar.data.synthetic.synthesise import Utterance

Say = Callable[..., Utterance]
JAW, OPEN, PUCKER, CLOSE, TUCK = (CHANNELS.index(name) for name in ("jaw", "open", "pucker", "close", "tuck"))
FPS = 25


def _random_speech(say: Say, seed: int, num_phones: int = 60) -> Utterance:
    rng = np.random.default_rng(seed)
    names = [PHONE_NAMES[rng.integers(1, len(PHONE_NAMES))] for _ in range(num_phones)]
    names[::4] = [("p", "b", "m")[rng.integers(3)] for _ in names[::4]]
    middle = [(name, float(rng.uniform(0.02, 0.16))) for name in names]
    return say(("sil", 0.3), *middle, ("sil", 0.3))


def _during(utterance: Utterance, index: int) -> slice:
    """The frames whose time, moved by the lips' lead, a phone overlaps."""
    start = (utterance.ends_s[index - 1] if index else 0.0) - _LIP_LEAD_S
    return slice(max(0, int(np.floor(start * FPS))), int(np.ceil((utterance.ends_s[index] - _LIP_LEAD_S) * FPS)) + 1)


@pytest.mark.parametrize("seed", range(5))
def test_bilabials_always_seal(say: Say, seed: int) -> None:
    utterance = _random_speech(say, seed)
    curves = articulate(utterance, FPS, SpeakingStyle.sample(np.random.default_rng(seed)))
    durations = np.diff(utterance.ends_s, prepend=0)
    for k in np.flatnonzero(np.isin(utterance.phones, [PHONE_INDEX[name] for name in "pbm"]) & (durations > 0.03)):
        during = _during(utterance, k)
        assert curves[during, CLOSE].max() >= 0.99
        assert aperture(curves)[during].min() < 0.02


def test_labiodentals_tuck_the_lip(say: Say) -> None:
    curves = articulate(say(("sil", 0.2), ("a", 0.15), ("f", 0.09), ("a", 0.15), ("sil", 0.2)), FPS)
    assert curves[:, TUCK].max() > 0.99
    assert curves[:, CLOSE].max() < 0.01


def test_in_silence_the_mouth_rests(say: Say) -> None:
    curves = articulate(say(("sil", 1.5), ("a", 0.2), ("sil", 1.5)), FPS)
    opening = aperture(curves)
    assert opening[:25].max() < 0.03 and opening[-25:].max() < 0.03
    assert opening.max() > 0.4
    assert aperture(articulate(say(("sil", 2.0)), FPS)).max() < 0.01


def test_a_short_pause_inside_a_sentence_does_not_shut_the_mouth(say: Say) -> None:
    spoken = (("sil", 0.3), ("t", 0.1), ("a", 0.2), ("sil", 0.3), ("a", 0.2), ("sil", 0.3))
    open_pause = aperture(articulate(say(*spoken), FPS, SpeakingStyle(pause_opening=0.25)))
    shut_pause = aperture(articulate(say(*spoken), FPS, SpeakingStyle(pause_opening=0.0)))
    middle = slice(int(0.7 * FPS), int(0.8 * FPS))
    assert open_pause[middle].min() > shut_pause[middle].max() + 0.02


def test_louder_and_longer_vowels_open_wider(say: Say) -> None:
    spoken = (("sil", 0.2), ("t", 0.08), ("a", 0.12), ("t", 0.08), ("a", 0.12), ("t", 0.08), ("sil", 0.2))
    opening = aperture(articulate(say(*spoken, level=[0, 0.1, 0.05, 0.1, 0.3, 0.1, 0]), 100))
    quiet, loud = opening[25:42].max(), opening[45:62].max()
    assert loud > 1.15 * quiet
    short = aperture(articulate(say(("sil", 0.2), ("a", 0.06), ("sil", 0.2)), 100)).max()
    long = aperture(articulate(say(("sil", 0.2), ("a", 0.25), ("sil", 0.2)), 100)).max()
    assert long > 1.15 * short


def test_style_scales_articulation(say: Say) -> None:
    utterance = _random_speech(say, 7)
    mumbled, clear = (aperture(articulate(utterance, FPS, SpeakingStyle(effort=e))).mean() for e in (0.7, 1.3))
    assert clear > 1.3 * mumbled
    flat, round_ = (articulate(utterance, FPS, SpeakingStyle(rounding=r))[:, PUCKER].mean() for r in (0.75, 1.25))
    assert round_ == pytest.approx(flat * 1.25 / 0.75, rel=0.01)


def test_rounding_reaches_into_the_neighbours(say: Say) -> None:
    spoken = [("sil", 0.2), ("t", 0.1), ("u", 0.15), ("sil", 0.2)]
    rounded = articulate(say(*spoken), 100)[:, PUCKER]
    assert rounded[25] > 0.2  # the lips are round before the vowel is heard


def test_curves_are_bounded_and_as_long_as_the_sound(say: Say) -> None:
    for seed in range(3):
        utterance = _random_speech(say, seed)
        for rate in (25, 50):
            curves = articulate(utterance, rate)
            assert curves.shape == (int(np.ceil(utterance.duration_s * rate)), len(CHANNELS))
            assert curves.dtype == np.float32 and np.isfinite(curves).all()
            assert curves.min() >= 0 and curves.max() < 1.4


def test_movement_is_smooth(say: Say) -> None:
    curves = articulate(_random_speech(say, 3), 100)
    assert np.abs(np.diff(curves[:, JAW])).max() < 0.1


def test_the_phone_of_each_frame(say: Say) -> None:
    frames = phone_frames(say(("sil", 0.1), ("a", 0.06), ("m", 0.04)), 50)
    assert frames.tolist() == [SILENCE] * 5 + [PHONE_INDEX["a"]] * 3 + [PHONE_INDEX["m"]] * 2
    assert frames.dtype == np.int64


def test_phones_without_length_are_left_out(say: Say) -> None:
    utterance = say(("sil", 0.2), ("a", 0.2), ("p", 0.0), ("a", 0.2), ("sil", 0.2))
    assert articulate(utterance, FPS)[:, CLOSE].max() < 0.01
