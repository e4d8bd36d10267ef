"""The life that goes on whether or not somebody speaks: blinks, glances, a swaying head, breath.

A random process of its own rather than something the transformer learns: it does not depend on the sound, and a few-step
sampler averages it away (measured: a third of the natural spread and no blinks). Every number is a function of (seed, time),
so a video can be made in pieces of any length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.rig import default_rig

_BLINK_INTERVAL_S = (1.6, 5.5)  # about 17 a minute (A. R. Bentivoglio et al., "Analysis of blink rate patterns", 1997)
_DOUBLE_BLINK_SHARE = 0.12
_BLINK_COURSE = np.array([0.45, 1.0, 1.0, 0.75, 0.4, 0.15])  # closing is faster than opening
_GLANCE_INTERVAL_S = (0.6, 2.5)
_GLANCE_MOVE_S = 0.06
_GLANCE_SPREAD = np.array([0.135, 0.06])  # canonical units; the eyes mostly rest on the viewer
_SWAY = (  # amplitude (rad or units) and period (s) of rotation x, y, z and translation x, y
    (0.032, (2.3, 5.1, 9.7)),
    (0.050, (3.1, 6.3, 12.9)),
    (0.026, (4.1, 7.9, 15.1)),
    (0.10, (5.3, 11.3, 17.9)),
    (0.05, (4.7, 9.1, 14.3)),
)
_BREATH_PERIOD_S, _BREATH_RISE = 3.9, 0.045
_POSTURE_INTERVAL_S, _POSTURE_MOVE_S = (1.2, 4.0), 0.95  # now and then the head moves on and stays there
_POSTURE_SPREAD = np.array([0.038, 0.078, 0.033])  # rad about x, y, z
_START_S = 0.6  # a video starts as the photo; movement comes in over this time
_EVENT_BLOCK_S = 60.0


@dataclass(frozen=True)
class IdleMotion:
    """One person's idle movement.

    Attributes:
        seed: the same seed gives the same movement.
        head_motion: size of the head's sway, 1 is natural, 0 still.
        eyes: whether the person blinks and glances.
    """

    seed: int
    head_motion: float = 1.0
    eyes: bool = True

    def frames(self, start: int, stop: int) -> MeshMotion:
        """Movement of video frames [start, stop), to be added to what speech does."""
        t = np.arange(start, stop) / MOTION_FPS
        begin = _smoothstep(t / _START_S)[:, None]
        rotation, translation = self._sway(t)
        motion = MeshMotion.zeros(stop - start)
        blink, gaze = self._eyes(t) if self.eyes else (np.zeros_like(t), np.zeros((len(t), 2)))
        lids = default_rig().displacement(default_rig().weights(1, eye_blink=1.0))[0]
        return MeshMotion(
            motion.expression + (blink * begin[:, 0])[:, None, None] * lids,
            rotation * begin * self.head_motion,
            translation * begin * self.head_motion,
            gaze * begin,
        )

    def added_to(self, motions: Iterable[MeshMotion]) -> Iterator[MeshMotion]:
        """Blocks of what speech and feeling cause, with this life in them; `head_motion` scales the head in both."""
        done, size = 0, self.head_motion
        for motion in motions:
            spoken = MeshMotion(motion.expression, motion.rotation * size, motion.translation * size, motion.gaze)
            yield spoken + self.frames(done, done + len(motion))
            done += len(motion)

    def _sway(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of a few slow sines with random phases: smooth, unbounded in time, never repeating."""
        rng = np.random.default_rng((self.seed, 1))
        columns = []
        for amplitude, periods in _SWAY:
            waves = [
                np.sin(2 * np.pi * (t / (period * rng.uniform(0.85, 1.18)) + rng.random())) * rng.uniform(0.6, 1.3)
                for period in periods
            ]
            columns.append(amplitude * np.sum(waves, axis=0) / np.sqrt(len(waves)))
        breath = np.sin(2 * np.pi * (t / (_BREATH_PERIOD_S * rng.uniform(0.9, 1.15)) + rng.random()))
        translation = np.stack([columns[3], columns[4] + _BREATH_RISE * breath, 0.003 * breath], axis=1)
        return np.stack(columns[:3], axis=1) + self._posture(t), translation

    def _posture(self, t: np.ndarray) -> np.ndarray:
        """Head rotation (T, 3) that moves to another place every few seconds and rests there, back in the middle in between."""
        rotation = np.zeros((len(t), 3))
        for block, inside in _blocks(t):
            rng = np.random.default_rng((self.seed, 3, block))
            moves = _events(block * _EVENT_BLOCK_S, _POSTURE_INTERVAL_S, rng)
            targets = rng.normal(size=(len(moves), 3)).clip(-1.8, 1.8) * _POSTURE_SPREAD
            targets[-1] = 0  # where the next block begins
            rotation[inside] = _held(t[inside], moves, targets, _POSTURE_MOVE_S)
        return rotation

    def _eyes(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        blink, gaze = np.zeros_like(t), np.zeros((len(t), 2))
        for block, inside in _blocks(t):
            rng = np.random.default_rng((self.seed, 2, block))
            begin = block * _EVENT_BLOCK_S
            for when in _events(begin, _BLINK_INTERVAL_S, rng):
                for again in (0.0, 0.36)[: 1 + (rng.random() < _DOUBLE_BLINK_SHARE)]:
                    phase = (t - when - again) * MOTION_FPS
                    blink = np.maximum(
                        blink, np.interp(phase, np.arange(-1, 7), [0, *_BLINK_COURSE, 0], left=0, right=0)
                    )
            glances = _events(begin, _GLANCE_INTERVAL_S, rng)
            targets = rng.normal(size=(len(glances), 2)) * _GLANCE_SPREAD * (rng.random((len(glances), 1)) < 0.6)
            gaze[inside] = _held(t[inside], glances, targets, _GLANCE_MOVE_S)
        return blink, gaze


def _blocks(t: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The blocks of events that the times (T,) fall into, each with the (T,) mask of the times inside."""
    if len(t):
        for block in range(int(t[0] // _EVENT_BLOCK_S), int(t[-1] // _EVENT_BLOCK_S) + 1):
            yield block, (t >= block * _EVENT_BLOCK_S) & (t < (block + 1) * _EVENT_BLOCK_S)


def _held(t: np.ndarray, events: np.ndarray, targets: np.ndarray, move_s: float) -> np.ndarray:
    """From 0, at each event on to its target (E, D) within `move_s`, and there until the next: (T, D)."""
    places = np.vstack([np.zeros_like(targets[:1]), np.zeros_like(targets[:1]), targets])
    index = np.searchsorted(events, t, side="right")
    since = t - np.array([-np.inf, *events])[index]
    settled = _smoothstep(since / move_s)[:, None]
    return places[index] + settled * (places[index + 1] - places[index])


def _events(begin: float, interval_s: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Times of events within one block, seconds."""
    count = int(_EVENT_BLOCK_S / interval_s[0]) + 1
    times = begin + np.cumsum(rng.uniform(*interval_s, count))
    return times[times < begin + _EVENT_BLOCK_S - 1.0]


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = t.clip(0, 1)
    return t * t * (3 - 2 * t)
