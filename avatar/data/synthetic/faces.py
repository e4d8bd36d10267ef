"""Random people for the synthetic corpus: neutral shapes of the mesh that differ as human faces do.

Each is the mean face with a few smooth, anthropometric changes (face and jaw width, lower-face height, mouth width, lip
fullness, nose, eye spacing, brow height), about as large as the spread among adults (L. G. Farkas, "Anthropometry of the
Head and Face", 1994: standard deviations of 4 to 8 % of each measure).
"""

from __future__ import annotations

import numpy as np

from avatar.face_mesh import LIPS, canonical_vertices

_CHIN_Y, _MOUTH_Y, _NOSE_Y, _EYE_Y = -8.5, -4.3, -0.5, 3.0  # canonical units


def random_face(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """One person.

    Returns:
        The neutral shape (478, 3) float32, canonical units, and how large this person's mouth movements are relative to the
        mean (longer lower faces open further), about 0.85 to 1.15.
    """
    mean = canonical_vertices().astype(np.float64)
    x, y, z = mean.T
    shape = mean.copy()
    below_nose = _ramp(y, _NOSE_Y, _CHIN_Y)
    above_eyes = _ramp(y, _EYE_Y, 8.0)
    mouth = np.exp(-((x / 3.2) ** 2 + ((y - _MOUTH_Y) / 1.6) ** 2))
    nose = np.exp(-((x / 1.8) ** 2 + ((y - 1.0) / 2.2) ** 2))
    eyes = np.exp(-((y - _EYE_Y) ** 2) / 3.0)

    lower_height = rng.normal(0, 0.06)
    shape[:, 0] += x * (rng.normal(0, 0.05) + rng.normal(0, 0.05) * below_nose + rng.normal(0, 0.04) * above_eyes)
    shape[:, 0] += x * rng.normal(0, 0.06) * mouth + np.sign(x) * rng.normal(0, 0.15) * eyes
    shape[:, 1] += below_nose * (_CHIN_Y - _NOSE_Y) * lower_height
    shape[:, 1] += rng.normal(0, 0.25) * above_eyes + rng.normal(0, 0.2) * nose * _ramp(y, 3.0, 0.0)
    shape[:, 2] += z * rng.normal(0, 0.05) + rng.normal(0, 0.35) * nose + rng.normal(0, 0.3) * below_nose
    lips = np.zeros(len(mean), bool)
    lips[list(LIPS)] = True
    fullness = rng.normal(0, 0.2)
    shape[lips, 1] += fullness * (y[lips] - _MOUTH_Y)
    return shape.astype(np.float32), float(np.clip(1 + 1.5 * lower_height + rng.normal(0, 0.03), 0.8, 1.2))


def _ramp(y: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 before `start`, 1 at `stop` and beyond, smooth in between."""
    t = ((y - start) / (stop - start)).clip(0, 1)
    return t * t * (3 - 2 * t)
