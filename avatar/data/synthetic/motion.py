"""Speech to the whole face: mouth curves, prosody and emotion to weights of the rig and movements of the head.

What is made here is what speech and feeling cause. The life that goes on regardless (blinks, glances, sway, breath) is
`avatar.codec.mesh.idle`, added to real and synthetic videos alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.rig import Rig
from avatar.data.synthetic.articulation import SpeakingStyle, aperture, articulate
from avatar.data.synthetic.phones import CHANNELS
from avatar.data.synthetic.synthesise import Utterance
from avatar.emotion.labels import EMOTIONS, EXPRESSIONS, shapes_of
from avatar.types import MODEL_SAMPLE_RATE_HZ

# How each articulatory channel moves the rig, at channel value 1. Sealing also needs `mouth_close`, see below.
_SPEECH_SHAPES: dict[str, dict[str, float]] = {
    "jaw": {"jaw_open": 0.66, "mouth_lower_down": 0.46, "mouth_upper_up": 0.30, "mouth_smile": 0.06},
    "open": {"mouth_lower_down": 1.0, "mouth_upper_up": 0.60},
    "spread": {"mouth_stretch": 0.50, "mouth_smile": 0.14},
    "pucker": {"mouth_pucker": 0.80},
    "funnel": {"mouth_funnel": 0.65},
    "close": {"mouth_press": 0.35, "mouth_roll_lower": 0.15, "mouth_roll_upper": 0.12},
    "tuck": {"mouth_roll_lower": 0.75, "mouth_upper_up": 0.20},
}
# How a feeling changes articulation, and how the head is held: pitch (down positive) and roll in radians.
_EFFORT = {
    "happy": 1.05,
    "sad": 0.82,
    "angry": 1.15,
    "surprised": 1.10,
    "fearful": 0.95,
    "disgusted": 0.95,
    "contempt": 0.92,
}
_POSTURE = {"sad": (0.07, 0.03), "angry": (0.04, 0.0), "surprised": (-0.04, 0.0), "fearful": (-0.03, 0.02),
            "disgusted": (-0.02, 0.03), "contempt": (-0.04, 0.05)}  # fmt: skip
_SETS_IN_SHARE = 0.6  # of the performances whose feeling is not yet on the face in the first frame
# About half a second (K. L. Schmidt et al., "Signal characteristics of spontaneous smiles", 2003).
_ONSET_FRAMES = (8.0, 20.0)
_MOUTH_PREFIXES = ("mouth_frown", "mouth_press", "mouth_stretch", "mouth_shrug", "mouth_dimple")
_PARTING_PREFIXES = ("mouth_upper_up", "mouth_lower_down")


@dataclass(frozen=True)
class Performance:
    """Who speaks and how.

    Attributes:
        style: articulation.
        emotion: weights over `EMOTIONS`, summing to 1.
        amplitude: size of the mouth's movements that this person's face asks for.
        expression: weights of single shapes beside the emotion's, for expressions that have no name.
        nod: strength of nods on stressed syllables.
        brow: strength of brow raises on stressed syllables.
    """

    style: SpeakingStyle = field(default_factory=SpeakingStyle)
    emotion: tuple[float, ...] = (1.0, *(0.0,) * (len(EMOTIONS) - 1))
    amplitude: float = 1.0
    expression: dict[str, float] = field(default_factory=dict)
    nod: float = 1.0
    brow: float = 1.0

    @classmethod
    def sample(cls, rng: np.random.Generator, amplitude: float = 1.0) -> Performance:
        """A random speaker: many neutral, most feeling one thing, sometimes two, some with an expression of no name."""
        weights = np.zeros(len(EMOTIONS))
        kind = rng.random()
        expression = _nameless_expression(rng) if kind > 0.8 else {}
        if 0.35 < kind <= 0.8:
            for _ in range(1 + (rng.random() < 0.2)):
                weights[rng.integers(1, len(EMOTIONS))] += rng.uniform(0.25, 1.0)
            weights /= max(1.0, weights.sum())
        weights[0] = 1 - weights.sum()
        return cls(
            SpeakingStyle.sample(rng),
            tuple(weights),
            amplitude,
            expression,
            rng.uniform(0.3, 1.5),
            rng.uniform(0.0, 1.2),
        )


@dataclass(frozen=True)
class RigMotion:
    """Weights (T, P) of the rig, head rotation (T, 3) rad, translation (T, 3), gaze (T, 2), at 25 fps."""

    weights: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    gaze: np.ndarray

    def mesh(self, rig: Rig) -> MeshMotion:
        """The same on the face mesh; the rig that the weights were made for."""
        return MeshMotion(rig.displacement(self.weights), self.rotation, self.translation, self.gaze)


def perform(utterance: Utterance, rig: Rig, performance: Performance, rng: np.random.Generator) -> RigMotion:
    """One utterance as a person would show it.

    Args:
        utterance: the sound with its phone times.
        rig: whose weights are wanted.
        performance: who speaks and how.
        rng: source of chance for what is not determined (which stresses are marked, how feelings wax and wane).

    Returns:
        T = ceil(25 * duration) frames.
    """
    emotion = dict(zip(EMOTIONS, performance.emotion, strict=True))
    effort = sum(weight * _EFFORT.get(name, 1.0) for name, weight in emotion.items()) * performance.amplitude
    curves = articulate(utterance, int(MOTION_FPS), performance.style)
    curves[:, CHANNELS.index("jaw")] *= effort
    curves[:, CHANNELS.index("open")] *= effort
    weights = speech_weights(curves, rig)
    stress = _stress(utterance, len(curves))
    rotation = np.zeros((len(curves), 3), np.float32)
    _mark_stress(weights, rotation, stress, rig, performance, rng)
    shown = expression_weights(performance, rig)
    _show_feeling(weights, rotation, emotion, shown, aperture(curves), rng, rig)
    _seal(weights, curves[:, CHANNELS.index("close")], rig)
    np.clip(weights, rig.lower, rig.upper, out=weights)
    still = np.zeros((len(curves), 3), np.float32)
    return RigMotion(weights, rotation, still, np.zeros((len(curves), 2), np.float32))


def speech_weights(curves: np.ndarray, rig: Rig) -> np.ndarray:
    """Mouth curves (T, 7) to rig weights (T, P); full closure seals the lips whatever the jaw does."""
    weights = np.zeros((len(curves), len(rig)), np.float32)
    for channel, shapes in _SPEECH_SHAPES.items():
        weights += rig.weights(1, **shapes) * curves[:, [CHANNELS.index(channel)]]
    _seal(weights, curves[:, CHANNELS.index("close")], rig)
    return weights


def _seal(weights: np.ndarray, closure: np.ndarray, rig: Rig) -> None:
    """Closes the lips by `closure` (T,) in [0, 1]: over the whole of the jaw's drop, with nothing that parts them."""
    weights[:, rig.index("mouth_close")] = weights[:, rig.index("jaw_open")] * closure
    parting = [name.startswith(_PARTING_PREFIXES) for name in rig.names]
    weights[:, parting] *= 1 - closure[:, None]


def expression_weights(performance: Performance, rig: Rig) -> np.ndarray:
    """The facial expression (P,) of a performance, before it waxes and wanes."""
    total = rig.weights(1, **performance.expression)[0] + rig.weights(1, **shapes_of(performance.emotion))[0]
    return np.clip(total, rig.lower, rig.upper)


def _nameless_expression(rng: np.random.Generator) -> dict[str, float]:
    """A few of the shapes that expressions are made of, at random strengths."""
    names = sorted({name for shapes in EXPRESSIONS.values() for name in shapes})
    chosen = rng.choice(names, size=int(rng.integers(1, 6)), replace=False)
    return {str(name): float(rng.uniform(0.1, 0.9)) for name in chosen}


def _stress(utterance: Utterance, num_frames: int) -> np.ndarray:
    """Loudness against its surroundings at 25 fps, (T,), about unit variance, positive on stressed syllables."""
    frame = int(MODEL_SAMPLE_RATE_HZ / MOTION_FPS)
    samples = np.pad(utterance.samples.astype(np.float32), (0, max(0, num_frames * frame - len(utterance.samples))))
    level = np.log(np.sqrt(np.mean(samples[: num_frames * frame].reshape(num_frames, frame) ** 2, axis=1)) + 30)
    syllables = gaussian_filter1d(level, 2.0) - gaussian_filter1d(level, 12.0)
    return syllables / (syllables.std() + 1e-3)


def _mark_stress(
    weights: np.ndarray,
    rotation: np.ndarray,
    stress: np.ndarray,
    rig: Rig,
    performance: Performance,
    rng: np.random.Generator,
) -> None:
    """Nods and brow raises on some of the loudest syllables (E. Krahmer and M. Swerts, "The effects of visual beats on
    prosodic prominence", 2007)."""
    peaks = np.flatnonzero((stress[1:-1] > stress[:-2]) & (stress[1:-1] >= stress[2:]) & (stress[1:-1] > 0.7)) + 1
    nod, brow = np.zeros(len(stress)), np.zeros(len(stress))
    for peak in peaks:
        nod[peak] = stress[peak] * rng.uniform(0.2, 1.0) * (rng.random() < 0.8)
        brow[peak] = stress[peak] * rng.uniform(0.3, 1.0) * (rng.random() < 0.4)
    rotation[:, 0] += 0.16 * performance.nod * gaussian_filter1d(nod, 3.0)
    raised = (1.4 * performance.brow * gaussian_filter1d(brow, 3.5)).clip(0, 0.5)
    weights += raised[:, None] * rig.weights(1, brow_inner_up=0.8, brow_outer_up=0.8)


def _show_feeling(
    weights: np.ndarray,
    rotation: np.ndarray,
    emotion: dict[str, float],
    expression: np.ndarray,
    opening: np.ndarray,
    rng: np.random.Generator,
    rig: Rig,
) -> None:
    """Adds the expression, waxing and waning slowly; shapes that would fight an opening mouth give way to it.

    Often it sets in only after the first frame, as it must on a portrait that shows another one.
    """
    swell = (1 + 0.2 * _slow_noise(len(weights), 40.0, rng)).clip(0.5, 1.5)
    if rng.random() < _SETS_IN_SHARE:
        risen = (np.arange(len(swell)) / rng.uniform(*_ONSET_FRAMES)).clip(0, 1)
        swell *= risen * risen * (3 - 2 * risen)
    shown = expression * swell[:, None]
    yielding = np.array([name.startswith(_MOUTH_PREFIXES) for name in rig.names])
    shown[:, yielding] *= (1 - 0.5 * opening.clip(0, 1))[:, None]
    weights += shown
    for name, weight in emotion.items():
        pitch, roll = _POSTURE.get(name, (0.0, 0.0))
        rotation[:, 0] += weight * pitch * swell
        rotation[:, 2] += weight * roll * swell


def _slow_noise(num_frames: int, width_frames: float, rng: np.random.Generator) -> np.ndarray:
    noise = gaussian_filter1d(rng.normal(size=num_frames + int(8 * width_frames)), width_frames)
    middle = noise[int(4 * width_frames) :][:num_frames]
    return middle * np.sqrt(2 * np.sqrt(np.pi) * width_frames)
