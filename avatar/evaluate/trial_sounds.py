"""Sounds to try a model with: sentences of held-out voices, sung, with a pause between, and noises nobody speaks in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar.data.synthetic.corpus import SpeechShard
from avatar.data.synthetic.phones import SILENCE
from avatar.data.synthetic.synthesise import Utterance
from avatar.evaluate.bilabials import BILABIALS
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

LEAD_S = 0.25  # of silence before and after every sentence
SENTENCE_S = (2.5, 7.0)
PAUSE_S = 4.0
NOISE_FLOOR_DBFS = -70.0  # of a quiet recording's pause
NOISE_DBFS, NOISE_S = -30.0, 6.0
CROWD_SIZE = 16
SUNG_RATE = 0.55  # of the speed of speech
_NOTES, _NOTE_S, _FADE_S = (-3, 0, 2, 4, 7), (0.35, 0.9), 0.03  # semitones from the speaker's own pitch
_VIBRATO_HZ, _VIBRATO_SEMITONES = 5.5, 0.4


@dataclass(frozen=True)
class Sentence:
    """One sentence of one voice, with silence around it."""

    voice: str
    utterance: Utterance

    @property
    def waveform(self) -> Waveform:
        return Waveform(self.utterance.samples.astype(np.float32) / 32768)


def sentences(shards: list[SpeechShard], count: int, skip: int = 0) -> list[Sentence]:
    """The first `count` sentences of every voice, after `skip`, that last 2.5 to 7 s and have a /p b m/; voices in turn."""
    chosen = [
        [Sentence(shard.voice.name, _padded(said)) for said in shard.utterances if _is_usable(said)][
            skip : skip + count
        ]
        for shard in shards
    ]
    return [voice[k] for k in range(count) for voice in chosen if k < len(voice)]


def with_pause(before: Sentence, after: Sentence, rng: np.random.Generator) -> tuple[Waveform, tuple[float, float]]:
    """Two sentences with four quiet seconds between them; and when nobody speaks, (start, end) in s."""
    pause = rng.normal(size=round(PAUSE_S * MODEL_SAMPLE_RATE_HZ)) * 10 ** (NOISE_FLOOR_DBFS / 20)
    samples = np.concatenate([before.waveform.samples, pause.astype(np.float32), after.waveform.samples])
    start = before.utterance.duration_s
    return Waveform(samples), (start, start + PAUSE_S)


def sung(sentence: Sentence, rng: np.random.Generator) -> Sentence:
    """The sentence as a song: slow, on notes that change every half second or so, with vibrato; phone times go along.

    Raises:
        ImportError: librosa is not installed (`pip install "avatar[train]"`).
    """
    from librosa.effects import pitch_shift, time_stretch

    slow = time_stretch(sentence.waveform.samples, rate=SUNG_RATE)
    rate = MODEL_SAMPLE_RATE_HZ
    pitches = {note: pitch_shift(slow, sr=rate, n_steps=note) for note in _NOTES}
    song, position = np.zeros_like(slow), 0
    fade = round(_FADE_S * rate)
    while position < len(slow):
        end = min(len(slow), position + round(rng.uniform(*_NOTE_S) * rate))
        weight = np.zeros(len(slow), np.float32)
        weight[position:end] = 1
        song += pitches[_NOTES[rng.integers(len(_NOTES))]] * np.convolve(weight, np.ones(fade) / fade, "same")
        position = end
    time_s = np.arange(len(song)) / rate
    depth_s = (2 ** (_VIBRATO_SEMITONES / 12) - 1) / (2 * np.pi * _VIBRATO_HZ)
    song = np.interp(time_s + depth_s * np.sin(2 * np.pi * _VIBRATO_HZ * time_s), time_s, song)
    said = sentence.utterance
    samples = (song.clip(-1, 1) * 32767).astype(np.int16)
    return Sentence(sentence.voice, Utterance(samples, said.phones, said.ends_s / np.float32(SUNG_RATE), said.text))


def noises(shards: list[SpeechShard], rng: np.random.Generator) -> dict[str, Waveform]:
    """Six seconds each, at -30 dBFS: white and pink noise, mains hum with harmonics, and many voices at once."""
    length = round(NOISE_S * MODEL_SAMPLE_RATE_HZ)
    time_s = np.arange(length) / MODEL_SAMPLE_RATE_HZ
    white = rng.normal(size=length)
    spectrum = np.fft.rfft(rng.normal(size=length))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), length)
    hum = sum(np.sin(2 * np.pi * 50 * k * time_s + rng.uniform(0, 6)) / k for k in (1, 2, 3, 4, 6))
    crowd = sum(_anybody(shards, length, rng) for _ in range(CROWD_SIZE))
    sounds = {"white noise": white, "pink noise": pink, "hum": np.asarray(hum), "a crowd": np.asarray(crowd)}
    return {name: _at_level(samples) for name, samples in sounds.items()}


def _is_usable(utterance: Utterance) -> bool:
    return SENTENCE_S[0] <= utterance.duration_s <= SENTENCE_S[1] and bool(np.isin(utterance.phones, BILABIALS).any())


def _padded(utterance: Utterance) -> Utterance:
    lead = round(LEAD_S * MODEL_SAMPLE_RATE_HZ)
    samples = np.pad(utterance.samples, lead)
    ends = np.concatenate([[LEAD_S], utterance.ends_s + LEAD_S, [len(samples) / MODEL_SAMPLE_RATE_HZ]])
    phones = np.concatenate([[SILENCE], utterance.phones, [SILENCE]]).astype(np.int16)
    return Utterance(samples, phones, ends.astype(np.float32), utterance.text)


def _anybody(shards: list[SpeechShard], length: int, rng: np.random.Generator) -> np.ndarray:
    """Somebody who speaks all the time, of unit variance, from a random moment on."""
    shard = shards[rng.integers(len(shards))]
    several = [shard.utterances[k].samples for k in rng.integers(len(shard.utterances), size=6)]
    spoken = np.resize(np.concatenate(several).astype(np.float64), length)
    return np.roll(spoken / (spoken.std() + 1e-9), rng.integers(length))


def _at_level(samples: np.ndarray) -> Waveform:
    rms = np.sqrt(np.mean(samples**2))
    return Waveform((samples / rms * 10 ** (NOISE_DBFS / 20)).clip(-1, 1).astype(np.float32))
