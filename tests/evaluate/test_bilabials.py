"""Bilabials of an utterance whose phone times are known."""

from __future__ import annotations

import numpy as np

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.synthetic.articulation import articulate
from avatar.data.synthetic.motion import speech_weights
from avatar.data.synthetic.phones import PHONE_INDEX
from avatar.data.synthetic.synthesise import Utterance
from avatar.evaluate.bilabials import bilabials_closed
from avatar.evaluate.face_track import FaceTrack

FPS = 25.0


def _utterance(*phones: tuple[str, float]) -> Utterance:
    ends = np.cumsum([length for _, length in phones]).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=int(ends[-1] * 16_000)) * 3000
    return Utterance(noise.astype(np.int16), np.array([PHONE_INDEX[name] for name, _ in phones], np.int16), ends, "")


def test_only_p_b_and_m_count_and_each_needs_closed_lips_within_60_ms() -> None:
    spoken = _utterance(("a", 0.4), ("p", 0.08), ("a", 0.4), ("f", 0.08), ("a", 0.4), ("m", 0.08), ("a", 0.4))
    opening = np.full(46, 0.15)
    assert bilabials_closed(opening, spoken, FPS).tolist() == [False, False]
    opening[9] = 0.0  # its middle, 0.38 s, is 20 ms before the p
    assert bilabials_closed(opening, spoken, FPS).tolist() == [True, False]
    opening[37] = 0.0  # 1.5 s, 60 ms after the m, which ends at 1.44 s
    assert bilabials_closed(opening, spoken, FPS).tolist() == [True, True]
    opening[37], opening[38] = 0.15, 0.0
    assert bilabials_closed(opening, spoken, FPS).tolist() == [True, False]


def test_the_articulation_teacher_closes_at_every_bilabial() -> None:
    spoken = _utterance(
        *[(name, 0.09) for name in ("a", "p", "ɑ", "m", "i", "b", "u", "s", "m", "a", "t", "p", "l", "a")]
    )
    rig = default_rig()
    weights = speech_weights(articulate(spoken, int(FPS)), rig)
    still = MeshMotion.zeros(len(weights))
    motion = MeshMotion(rig.displacement(weights), still.rotation, still.translation, still.gaze)
    closed = bilabials_closed(FaceTrack.from_motion(motion).opening, spoken, FPS)
    assert len(closed) == 5
    assert closed.all()
