"""A sound, made ready for the transformer: noise in silences gated, features encoded as they are needed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import Wav2Vec2Model

from avatar.audio.alignment import audio_windows, first_feature, window_length
from avatar.audio.encoder import encode_speech
from avatar.audio.projector import AudioProjector
from avatar.audio.voice_activity import speech_activity
from avatar.types import Waveform


class AudioTokenSource:
    """Audio tokens of a sound, asked for in order, a stretch of latent frames at a time; old features are forgotten.

    Args:
        encoder: the speech encoder.
        projector: features to tokens.
        speech: 16 kHz sound.
        temporal_stride: video frames per latent frame.
    """

    def __init__(
        self, encoder: Wav2Vec2Model, projector: AudioProjector, speech: Waveform, temporal_stride: int
    ) -> None:
        self._projector = projector
        self._stride = temporal_stride
        self._margin = projector.config.margin_features
        self._pieces: Iterator[Tensor] = encode_speech(encoder, speech, speech_activity(speech))
        self._features = torch.zeros(0, encoder.config.hidden_size)
        self._offset = 0

    def tokens(self, start: int, stop: int) -> Tensor:
        """Tokens of latent frames [start, stop), (stop - start, M, D)."""
        windows = self.windows(start, stop)
        with torch.no_grad():
            return self._projector(windows.to(self._projector.dtype))

    @torch.no_grad()
    def windows(self, start: int, stop: int) -> Tensor:
        """Features of latent frames [start, stop), (stop - start, M, D_f); what lies before `start` is forgotten."""
        self._read_until(
            first_feature(stop - 1, self._stride, self._margin) + window_length(self._stride, self._margin)
        )
        self._forget_before(first_feature(start, self._stride, self._margin))
        return audio_windows(
            self._features, start, stop, temporal_stride=self._stride, margin_features=self._margin, offset=self._offset
        )

    def _read_until(self, feature: int) -> None:
        while self._offset + len(self._features) < feature:
            piece = next(self._pieces, None)
            if piece is None:
                return
            self._features = torch.cat([self._features.to(piece), piece])

    def _forget_before(self, feature: int) -> None:
        surplus = min(max(0, feature - self._offset), len(self._features))
        self._features = self._features[surplus:]
        self._offset += surplus
