"""How a published system hears, as data: which encoder, which of its layers, at which rate; `avatar.audio.front_end` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpeechFrontEnd:
    """How sound becomes features.

    Attributes:
        encoder: repository of the wav2vec2 model.
        layers: `"last"` for the last hidden state (L, D), `"stack"` for the output of every layer (L, 12, D), `"all"` for the
            last hidden state and then, from the embedding on, every hidden state, side by side (L, 14 D).
        at_video_rate: whether the output of the convolutions is interpolated to the video's rate *before* the transformer
            layers; else features come at 50 Hz.
        fps: video frames per second.
        loudness_lufs: loudness the sound is brought to first; None for as it is.
        after_end: what a video that is longer than the sound hears: `"silence"`, or the end of the sound `"mirrored"`.
        hidden_size, num_layers: of the encoder, at their published values.
    """

    encoder: str
    layers: Literal["last", "stack", "all"]
    at_video_rate: bool
    fps: float = 25.0
    loudness_lufs: float | None = None
    after_end: Literal["silence", "mirrored"] = "silence"
    hidden_size: int = 768
    num_layers: int = 12

    @property
    def feature_dim(self) -> int:
        """Size of one feature with all its layers."""
        return self.hidden_size * {"last": 1, "stack": self.num_layers, "all": self.num_layers + 2}[self.layers]
