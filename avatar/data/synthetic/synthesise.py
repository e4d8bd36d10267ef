"""Text to speech with exact phone times, through three engines, or a voice's own labelled recordings.

They are Debian packages (`espeak-ng libespeak-ng1 flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
festvox-ru`); only making the corpus needs them.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from avatar.data.synthetic.phones import RADIO_PHONES, RUSSIAN_PHONES, SILENCE, phones_of_ipa
from avatar.data.synthetic.text import english_sentence, spoken_text
from avatar.data.synthetic.voices import ESPEAK_VARIANTS, Voice
from avatar.errors import MissingDependencyError
from avatar.types import MODEL_SAMPLE_RATE_HZ

_FESTIVAL_VOICES_DIR = Path("/usr/share/festival/voices")


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    Attributes:
        samples: (S,) int16, 16 kHz.
        phones: (P,) int16, indices into `phones.PHONES`.
        ends_s: (P,) float32, when each phone ends.
        text: what was said.
    """

    samples: np.ndarray
    phones: np.ndarray
    ends_s: np.ndarray
    text: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / MODEL_SAMPLE_RATE_HZ


def utterances(voice: Voice, seed: int) -> Iterator[Utterance]:
    """An endless stream of utterances of one voice (a finite one for recordings), the same for the same seed.

    Raises:
        MissingDependencyError: the voice's program or data is not installed.
    """
    rng = np.random.default_rng(seed)
    engines = {"espeak": _espeak, "flite": _flite, "festival": _festival, "recordings": _recordings}
    for utterance in engines[voice.engine](voice, rng):
        if 0.5 < utterance.duration_s < 30 and (utterance.phones != SILENCE).sum() >= 3:
            yield utterance


def _text(voice: Voice, rng: np.random.Generator) -> str:
    if voice.script == "english" and rng.random() < 0.85:
        return english_sentence(rng)
    return spoken_text("latin" if voice.script == "english" else voice.script, rng)


def _utterance(samples: np.ndarray, rate_hz: int, phones: list[tuple[list[int], float, float]], text: str) -> Utterance:
    """Spreads each engine phone over its classes (a diphthong is two) and resamples to 16 kHz."""
    classes: list[int] = []
    ends: list[float] = []
    for indices, start, end in phones:
        parts = indices or [SILENCE]
        for k, index in enumerate(parts):
            # the first half of a diphthong is the longer one
            share = (k + 1) / len(parts) if len(parts) != 2 else (0.6, 1.0)[k]
            classes.append(index)
            ends.append(start + share * (end - start))
    if rate_hz != MODEL_SAMPLE_RATE_HZ:
        samples = soxr.resample(samples.astype(np.float32) / 32768, rate_hz, MODEL_SAMPLE_RATE_HZ)
        samples = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return Utterance(samples, np.array(classes, np.int16), np.array(ends, np.float32), text)


class _EspeakEventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _EspeakEvent(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EspeakEventId),
    ]


_ESPEAK_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
)
_ESPEAK_SYNCHRONOUS = 2
_ESPEAK_PHONEME_EVENTS_IPA = 0x0003
_ESPEAK_DONT_EXIT = 0x8000
_ESPEAK_EVENT_PHONEME = 7
_ESPEAK_RATE, _ESPEAK_PITCH, _ESPEAK_RANGE = 1, 3, 4


def _espeak(voice: Voice, rng: np.random.Generator) -> Iterator[Utterance]:
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError as err:
        raise MissingDependencyError(
            f"espeak-ng is not installed ({err}); install the packages espeak-ng libespeak-ng1"
        ) from err
    chunks: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []

    def receive(wav: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if wav and count > 0:
            chunks.append(np.ctypeslib.as_array(wav, (count,)).copy())
        k = 0
        while events[k].type != 0:
            if events[k].type == _ESPEAK_EVENT_PHONEME:
                marks.append((events[k].audio_position_ms / 1000, events[k].id.string.decode("utf-8", "ignore")))
            k += 1
        return 0

    callback = _ESPEAK_CALLBACK(receive)
    rate_hz = library.espeak_Initialize(_ESPEAK_SYNCHRONOUS, 0, None, _ESPEAK_PHONEME_EVENTS_IPA | _ESPEAK_DONT_EXIT)
    library.espeak_SetSynthCallback(callback)
    while True:
        variant = ESPEAK_VARIANTS[rng.integers(len(ESPEAK_VARIANTS))]
        if library.espeak_SetVoiceByName(f"{voice.voice_id}+{variant}".encode()) != 0:
            raise MissingDependencyError(f"espeak-ng has no voice {voice.voice_id}+{variant}; version 1.51 has")
        library.espeak_SetParameter(_ESPEAK_RATE, int(rng.integers(110, 210)), 0)
        library.espeak_SetParameter(_ESPEAK_PITCH, int(rng.integers(20, 80)), 0)
        library.espeak_SetParameter(_ESPEAK_RANGE, int(rng.integers(20, 90)), 0)
        text = _text(voice, rng)
        chunks.clear()
        marks.clear()
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1, None, None)
        if not chunks or len(marks) < 3:
            continue
        samples = np.concatenate(chunks)
        starts = [start for start, _ in marks] + [len(samples) / rate_hz]
        phones = [(phones_of_ipa(name), start, starts[k + 1]) for k, (start, name) in enumerate(marks)]
        if starts[0] > 0:
            phones.insert(0, ([], 0.0, starts[0]))
        # a phone event without a symbol of its own (length, stress) belongs to the phone before it
        yield _utterance(samples, rate_hz, _merge_marks(phones, [name for _, name in marks], starts[0] > 0), text)


def _merge_marks(
    phones: list[tuple[list[int], float, float]], names: list[str], has_lead: bool
) -> list[tuple[list[int], float, float]]:
    merged: list[tuple[list[int], float, float]] = []
    for k, (indices, start, end) in enumerate(phones):
        name = "" if has_lead and k == 0 else names[k - has_lead]
        is_mark = not indices and name.strip() != "" and not set(name) <= {"_", ":", " "}
        if is_mark and merged:
            merged[-1] = (merged[-1][0], merged[-1][1], end)
        else:
            merged.append((indices, start, end))
    return merged


def _run(command: list[str], package: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as err:
        raise MissingDependencyError(f"{command[0]} is not installed; install the package {package}") from err
    except subprocess.CalledProcessError as err:
        raise MissingDependencyError(f"{command[0]} failed: {err.stderr.strip()[-300:]}") from err


def _flite(voice: Voice, rng: np.random.Generator) -> Iterator[Utterance]:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "x.wav"
        while True:
            text = _text(voice, rng)
            stretch = rng.uniform(0.85, 1.25)
            options = [
                "--setf",
                f"duration_stretch={stretch:.2f}",
                "--setf",
                f"int_f0_target_mean={_pitch(voice, rng):.0f}",
            ]
            listing = _run(["flite", "-voice", voice.voice_id, "-psdur", *options, "-t", text, "-o", str(wav)], "flite")
            samples, rate_hz = soundfile.read(wav, dtype="int16")
            start, phones = 0.0, []
            for item in listing.split():
                name, _, end = item.rpartition(":")
                phones.append((phones_of_ipa(RADIO_PHONES[name]), start, float(end)))
                start = float(end)
            yield _utterance(samples, rate_hz, phones, text)


def _pitch(voice: Voice, rng: np.random.Generator) -> float:
    return {"slt": 170.0, "rms": 95.0, "awb": 120.0}.get(voice.voice_id, 105.0) * rng.uniform(0.85, 1.2)


def _festival(voice: Voice, rng: np.random.Generator) -> Iterator[Utterance]:
    batch = 20
    while True:
        texts = [_text(voice, rng).replace('"', "").replace("\\", "") for _ in range(batch)]
        with tempfile.TemporaryDirectory() as folder:
            lines = [f"(voice_{voice.voice_id})"]
            for k, text in enumerate(texts):
                stretch = rng.uniform(0.85, 1.25)
                lines.append(f"(Parameter.set 'Duration_Stretch {stretch:.2f})")
                lines.append(f"(set! u (eval (list 'Utterance 'Text \"{text}\")))(utt.synth u)")
                lines.append(f'(utt.save.segs u "{folder}/{k}.seg")(utt.save.wave u "{folder}/{k}.wav" \'riff)')
            script = Path(folder) / "make.scm"
            script.write_text("\n".join(lines))
            _run(["festival", "-b", str(script)], "festival and the voice's festvox package")
            for k, text in enumerate(texts):
                samples, rate_hz = soundfile.read(f"{folder}/{k}.wav", dtype="int16")
                yield _utterance(samples, rate_hz, _segments(Path(folder) / f"{k}.seg", RADIO_PHONES), text)


def _recordings(voice: Voice, rng: np.random.Generator) -> Iterator[Utterance]:
    folder = _FESTIVAL_VOICES_DIR / voice.voice_id
    names = sorted(path.stem for path in (folder / "wav").glob("*.wav"))
    if not names:
        raise MissingDependencyError(f"no recordings in {folder}; install the package festvox-ru")
    for name in rng.permutation(names):
        label = folder / "lab" / f"{name}.lab"
        if label.exists():
            samples, rate_hz = soundfile.read(folder / "wav" / f"{name}.wav", dtype="int16")
            yield _utterance(samples, rate_hz, _segments(label, RUSSIAN_PHONES), str(name))


def _segments(path: Path, table: dict[str, str]) -> list[tuple[list[int], float, float]]:
    """Reads an ESPS label file: `end colour name` a line after `#`."""
    start, phones = 0.0, []
    for line in path.read_text().split("#\n", 1)[1].splitlines():
        fields = line.split()
        if len(fields) >= 3:
            phones.append((phones_of_ipa(table[fields[2]]), start, float(fields[0])))
            start = float(fields[0])
    return phones
