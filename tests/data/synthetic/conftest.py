from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar.data.synthetic.phones import PHONE_INDEX
from avatar.data.synthetic.synthesise import Utterance

Say = Callable[..., Utterance]


@pytest.fixture(scope="session")
def say() -> Say:
    """An utterance of given (phone, seconds) pairs, with noise of a level per phone for its sound."""

    def make(*spoken: tuple[str, float], level: float | list[float] = 0.1) -> Utterance:
        rng = np.random.default_rng(0)
        levels = level if isinstance(level, list) else [level] * len(spoken)
        levels = [0.0 if name == "sil" else value for (name, _), value in zip(spoken, levels, strict=True)]
        parts = [rng.normal(size=round(s * 16_000)) * x for (_, s), x in zip(spoken, levels, strict=True)]
        samples = (np.concatenate(parts).clip(-1, 1) * 32767).astype(np.int16)
        ends = np.cumsum([seconds for _, seconds in spoken]).astype(np.float32)
        return Utterance(samples, np.array([PHONE_INDEX[name] for name, _ in spoken], np.int16), ends, "")

    return make
