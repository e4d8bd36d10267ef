"""The synthetic corpus as ordinary videos: portraits that say its sentences, with a manifest beside them.

The speaker's motion is the one the embedded weights are taught (`motion.perform`), with the idle life that the pipeline
adds to every video. Clip k is a function of (seed, k) alone, so a larger number of clips keeps the ones that are there.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from avatar.codec.mesh.idle import IdleMotion
from avatar.codec.mesh.motion import MOTION_FPS, beginning_at
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.data.synthetic.corpus import SpeechShard, load_voice
from avatar.data.synthetic.motion import Performance, perform
from avatar.data.synthetic.phones import SILENCE
from avatar.data.synthetic.synthesise import Utterance
from avatar.data.synthetic.voices import VOICES, Voice
from avatar.emotion.labels import EMOTIONS
from avatar.errors import OptionError, OutputError
from avatar.identity.choose import load_portrait
from avatar.media import write_video
from avatar.media.output import staged
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

MANIFEST = "manifest.csv"
_SETTINGS = "settings.json"
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_LONG_ENOUGH_S = 2.0  # a voice's shorter sentences are taken only where it has no others
_LEAD_S, _TAIL_S = (0.3, 0.8), (0.2, 0.6)  # silence before and after a sentence
_STRENGTH = (0.4, 1.0)
_HEAD_MOTION = (0.4, 1.4)
_BLOCK_FRAMES = 25


@dataclass(frozen=True)
class RenderedClip:
    """One row of the manifest.

    Attributes:
        path: of the mp4, relative to the manifest.
        voice: a name in `voices.VOICES`.
        language: BCP 47 tag.
        emotion: as `emotion.labels.EmotionMix.parse` reads it: `neutral`, `happy:0.73`.
        split: `train` or `held-out`, by voice.
        text: what is said; empty where it is not known.
        duration_s: of the video.
        seed: of all that is chance in this clip.
        head_motion: size of the head's movement, 1 is natural.
        portrait: file name of the picture.
        voice_licence: of the sound.
    """

    path: str
    voice: str
    language: str
    emotion: str
    split: str
    text: str
    duration_s: float
    seed: int
    head_motion: float
    portrait: str
    voice_licence: str


def find_portraits(folder: Path) -> list[Path]:
    """The pictures of a folder, by name.

    Raises:
        OptionError: not a folder, or no picture in it.
    """
    if not folder.is_dir():
        raise OptionError(f"{folder} is not a folder; give one with pictures of faces")
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not pictures:
        raise OptionError(f"{folder} holds no pictures ({', '.join(sorted(_PICTURES))})")
    return pictures


def render_clips(
    corpus: Path,
    out: Path,
    num_clips: int,
    portraits: Sequence[Path],
    *,
    seed: int = 0,
    size_px: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes `num_clips` mp4 files with sound, and the manifest; clips that are there are left alone.

    Voices take turns, so that every language is there once there are as many clips as voices.

    Args:
        corpus: folder of the synthetic speech (`corpus.make_speech`).
        out: receives `clips/` and the manifest; made when absent.
        num_clips: how many.
        portraits: pictures with one usable face each.
        seed: the same seed, portraits and speech give the same clips.
        size_px: longer side of the videos.
        progress: told (clips done, clips in all).

    Returns:
        The manifest, a CSV with the columns of `RenderedClip`.

    Raises:
        OptionError: no clips or portraits, a size that is too small, or `out` holds clips of other settings.
        MediaError: a voice or a portrait cannot be read.
        FaceError: a portrait has not exactly one usable face.
        OutputError: the result cannot be written.
    """
    check_portraits(portraits, size_px)
    if num_clips < 1:
        raise OptionError(f"the number of clips must be 1 or more, not {num_clips}")
    _prepare_folder(out, {"seed": seed, "size_px": size_px, "portraits": {p.name: _digest(p) for p in portraits}})
    rows = _finished(out)
    todo: dict[Voice, list[int]] = defaultdict(list)
    for index in range(num_clips):
        if _clip_path(index) not in rows:
            todo[_voice(seed, index)].append(index)
    stage = lru_cache(maxsize=4)(lambda path: _stage(path, size_px))
    done = num_clips - sum(map(len, todo.values()))
    for voice, indices in todo.items():  # a voice at a time: all of them together are a gigabyte
        shard = load_voice(corpus, voice)
        for index in indices:
            row, take = _plan(shard, seed, index, portraits)
            if not (out / row.path).exists():
                _render(take, stage(portraits[take.portrait]), out / row.path)
            rows[row.path] = row
            done += 1
            if progress is not None:
                progress(done, num_clips)
        _write_manifest(out, rows)
    return out / MANIFEST


def check_portraits(portraits: Sequence[Path], size_px: int) -> None:
    """Raises what `render_clips` would raise about the portraits and the size, before any other work is done."""
    if not portraits:
        raise OptionError("at least one portrait is needed")
    if size_px < 64:
        raise OptionError(f"size_px must be at least 64, not {size_px}")
    for path in portraits:
        load_portrait(path)


@dataclass(frozen=True)
class _Take:
    """What decides the frames and the sound of a clip."""

    utterance: Utterance
    performance: Performance
    portrait: int
    seed: int
    head_motion: float


def _voice(seed: int, index: int) -> Voice:
    turn, place = divmod(index, len(VOICES))
    return VOICES[np.random.default_rng((seed, 0, turn)).permutation(len(VOICES))[place]]


def _plan(shard: SpeechShard, seed: int, index: int, portraits: Sequence[Path]) -> tuple[RenderedClip, _Take]:
    clip_seed = int(np.random.SeedSequence((seed, 1, index)).generate_state(1)[0])
    rng = np.random.default_rng(clip_seed)
    sentences = [u for u in shard.utterances if u.duration_s >= _LONG_ENOUGH_S] or shard.utterances
    utterance = _with_silence(sentences[rng.integers(len(sentences))], rng.uniform(*_LEAD_S), rng.uniform(*_TAIL_S))
    performance, emotion = _performance(rng)
    take = _Take(
        utterance, performance, int(rng.integers(len(portraits))), clip_seed, round(rng.uniform(*_HEAD_MOTION), 2)
    )
    row = RenderedClip(
        path=_clip_path(index),
        voice=shard.voice.name,
        language=_language(shard.voice),
        emotion=emotion,
        split=shard.voice.split,
        text="" if shard.voice.engine == "recordings" else utterance.text,  # theirs is a file name
        duration_s=_num_frames(utterance) / MOTION_FPS,
        seed=clip_seed,
        head_motion=take.head_motion,
        portrait=portraits[take.portrait].name,
        voice_licence=shard.voice.licence,
    )
    return row, take


def _performance(rng: np.random.Generator) -> tuple[Performance, str]:
    """A random speaker with one named feeling, each of the labels as often as the others."""
    label = EMOTIONS[rng.integers(len(EMOTIONS))]
    strength = 1.0 if label == "neutral" else round(rng.uniform(*_STRENGTH), 2)
    weights = {name: strength * (name == label) for name in EMOTIONS}
    weights["neutral"] = 1 - sum(weights[name] for name in EMOTIONS[1:])
    performance = replace(Performance.sample(rng), emotion=tuple(weights.values()), expression={})
    return performance, label if strength == 1 else f"{label}:{strength:g}"


def _with_silence(utterance: Utterance, lead_s: float, tail_s: float) -> Utterance:
    lead, tail = (round(seconds * MODEL_SAMPLE_RATE_HZ) for seconds in (lead_s, tail_s))
    samples = np.pad(utterance.samples, (lead, tail))
    ends_s = [lead_s, *(utterance.ends_s + lead_s), len(samples) / MODEL_SAMPLE_RATE_HZ]
    phones = [SILENCE, *utterance.phones, SILENCE]
    return Utterance(samples, np.array(phones, np.int16), np.array(ends_s, np.float32), utterance.text)


def _render(take: _Take, stage: Stage, path: Path) -> None:
    sound = Waveform(take.utterance.samples.astype(np.float32) / 32768)
    write_video(path, _frames(take, stage), fps=MOTION_FPS, speech=sound)


def _frames(take: _Take, stage: Stage) -> Iterator[np.ndarray]:
    rig = default_rig()
    made = perform(take.utterance, rig, take.performance, np.random.default_rng((take.seed, 1))).mesh(rig)
    blocks = (made[start : start + _BLOCK_FRAMES] for start in range(0, len(made), _BLOCK_FRAMES))
    spoken = beginning_at(stage.own_expression, blocks)
    return map(stage.render, IdleMotion(take.seed, take.head_motion).added_to(spoken))


def _num_frames(utterance: Utterance) -> int:
    return int(np.ceil(utterance.duration_s * MOTION_FPS))


def _language(voice: Voice) -> str:
    if voice.engine != "espeak":
        return {"english": "en", "cyrillic": "ru"}[voice.script]
    return voice.voice_id.removesuffix("-latn-pinyin")


def _stage(path: Path, size_px: int) -> Stage:
    portrait = load_portrait(path)
    return Stage(portrait, size_px, others=portrait.others)


def _clip_path(index: int) -> str:
    return f"clips/{index:06d}.mp4"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _prepare_folder(out: Path, settings: dict[str, object]) -> None:
    """Makes the folder, or checks that what it holds was made with the same settings."""
    try:
        (out / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{out} cannot be made: {err.strerror or err}; choose another folder") from err
    path, text = out / _SETTINGS, json.dumps(settings, indent=1, sort_keys=True)
    if not path.exists():
        _write(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise OptionError(
            f"{out} holds clips of another seed, size or set of portraits (see {path}); ask for the same ones to go on, "
            "or remove the folder"
        )


def _finished(out: Path) -> dict[str, RenderedClip]:
    """Rows of the manifest whose video is there."""
    path = out / MANIFEST
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: row[name] for name in _COLUMNS} for row in csv.DictReader(file)]
    numbers = {"duration_s": float, "seed": int, "head_motion": float}
    clips = [RenderedClip(**{name: numbers.get(name, str)(value) for name, value in row.items()}) for row in rows]
    return {clip.path: clip for clip in clips if (out / clip.path).exists()}


_COLUMNS = [field.name for field in fields(RenderedClip)]


def _write_manifest(out: Path, rows: dict[str, RenderedClip]) -> None:
    path = out / MANIFEST
    with staged(path, overwrite=True) as name, open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(rows[key]) for key in sorted(rows))


def _write(path: Path, text: str) -> None:
    with staged(path, overwrite=True) as name:
        Path(name).write_text(text, encoding="utf-8")
