"""Measures the sync scorer and the envelope baseline on real clips.

CLIPS_DIR has a manifest.csv (here or one folder up) with the columns path, kind and sync_tier. Each clip's face is tracked
once; tracks are kept in TRACKS_DIR. Prints one line a clip, then, for our scorer's `sync_conf` and its `sync_margin`, for it
with SyncNet's confidence (how far the offset stands out) and for the envelope:

- AUC of the confidence of tier A above tier C;
- AUC of true sound above another tier A clip's sound, over the same frames: what is true here is known;
- offsets planted into tier A clips of 5 s and more (±2 to ±12 frames) and found within a frame: against what the clip has
  unplanted, against zero, and against what the *other half* of the clip has unplanted;
- the share of clips whose two halves have the same offset within a frame, by tier.

Each sound is encoded once; planting moves its features, with those of silence moved in (tests/data/scorers/test_sync.py plants
into the sound itself).

    python scripts/score_sync.py CLIPS_DIR TRACKS_DIR [--plant 2 4 6 8 10 12] [--max-s 20]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from avatar.audio.loudness import loudness_per_frame
from avatar.data.scorers.sync import sync_of
from avatar.data.sync.agreement import agreement, margin
from avatar.data.sync.envelope import envelope_sync
from avatar.data.sync.lag_curve import SyncResult
from avatar.data.sync.lips import tracked_lips
from avatar.data.sync.model import SyncModel
from avatar.data.sync.sound import shipped_encoder, speech_per_frame
from avatar.errors import AvatarError
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_video, read_waveform
from avatar.types import DEFAULT_FPS, MODEL_SAMPLE_RATE_HZ, Waveform

LEAST_S, LEAST_SWAPPED_FRAMES, MAX_SWAPPED_FRAMES = 5.0, 70, 125
SAMPLES_PER_FRAME = int(MODEL_SAMPLE_RATE_HZ / DEFAULT_FPS)


@dataclass(frozen=True)
class Sound:
    """What both scorers hear of a sound, per video frame: (S, D) features and (S,) loudness."""

    features: np.ndarray
    loudness: np.ndarray

    def __getitem__(self, frames: slice) -> Sound:
        return Sound(self.features[frames], self.loudness[frames])

    def early(self, frames: int, silence: Sound) -> Sound:
        """Made early by so many frames (late where negative), as long as before; silence comes in."""
        still = Sound(np.repeat(silence.features, abs(frames), axis=0), np.repeat(silence.loudness, abs(frames)))
        parts = (self[frames:], still) if frames > 0 else (still, self[: len(self.loudness) + frames])
        return Sound(np.concatenate([p.features for p in parts]), np.concatenate([p.loudness for p in parts]))


Judge = Callable[[np.ndarray, np.ndarray, Sound], "SyncResult | None"]


@dataclass(frozen=True)
class Clip:
    """A real clip: its tier, lips (T, 12), where they were found (T,), and sound from the first frame."""

    name: str
    tier: str
    lips: np.ndarray
    found: np.ndarray
    sound: Sound

    @property
    def duration_s(self) -> float:
        return len(self.lips) / DEFAULT_FPS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--plant", type=int, nargs="+", default=[2, 4, 6, 8, 10, 12], help="frames, both ways")
    parser.add_argument("--max-s", type=float, default=20.0, help="of each clip")
    arguments = parser.parse_args()
    arguments.tracks.mkdir(parents=True, exist_ok=True)
    clips = read_clips(arguments.clips, arguments.tracks, round(arguments.max_s * DEFAULT_FPS))
    model = SyncModel.load()
    silence = hear(Waveform(np.zeros(MODEL_SAMPLE_RATE_HZ, np.float32)))[12:13]

    def by_model(lips: np.ndarray, found: np.ndarray, sound: Sound) -> SyncResult | None:
        result = sync_of(model, sound.features, lips, found)
        return result and replace(result, confidence=agreement(result, lips[:, 0], found, sound.loudness))

    def by_margin(lips: np.ndarray, found: np.ndarray, sound: Sound) -> SyncResult | None:
        result = sync_of(model, sound.features, lips, found)
        return result and replace(result, confidence=margin(result))

    def by_prominence(lips: np.ndarray, found: np.ndarray, sound: Sound) -> SyncResult | None:
        return sync_of(model, sound.features, lips, found)

    def by_envelope(lips: np.ndarray, found: np.ndarray, sound: Sound) -> SyncResult | None:
        return envelope_sync(lips[:, 0], found, sound.loudness)

    judges: dict[str, Judge] = {
        "sync": by_model,
        "margin": by_margin,
        "prominence": by_prominence,
        "envelope": by_envelope,
    }
    print_clips(clips, judges)
    shifts = sorted({-shift for shift in arguments.plant} | set(arguments.plant))
    for name, judge in judges.items():
        print(f"\n{name}")
        print(f"  {tiers(clips, judge)}\n  {swapped(clips, judge)}\n  {halves(clips, judge)}", flush=True)
        print(f"  {planted(clips, judge, shifts, silence)}", flush=True)
    return 0


def hear(speech: Waveform) -> Sound:
    """A sound as both scorers hear it."""
    features = speech_per_frame(speech, shipped_encoder())
    return Sound(features, loudness_per_frame(speech, len(features), DEFAULT_FPS))


def read_clips(folder: Path, tracks: Path, max_frames: int) -> list[Clip]:
    """All clips with a face and sound; the rest are named on stderr."""
    manifest = next(path for path in (folder / "manifest.csv", folder.parent / "manifest.csv") if path.is_file())
    faces, clips = MediaPipeFaces(), []
    with manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "talking"]
    for row in rows:
        path = manifest.parent / row["path"]
        kept = tracks / f"{path.stem}.npz"
        try:
            if not kept.exists():
                landmarks, found = faces.track(islice(read_video(path), max_frames))
                np.savez(kept, landmarks=landmarks, found=found)
            with np.load(kept) as held:
                landmarks, found = held["landmarks"][:max_frames], held["found"][:max_frames]
            lips = tracked_lips(landmarks, found)
            sound = read_waveform(path)
        except AvatarError as err:
            sys.stderr.write(f"{path.name}: {err}\n")
            continue
        if lips is None:
            sys.stderr.write(f"{path.name}: no face\n")
            continue
        samples = sound.samples[: len(lips) * SAMPLES_PER_FRAME]
        clips.append(Clip(path.stem, row["sync_tier"] or "-", lips, found, hear(Waveform(samples))))
    return clips


def print_clips(clips: list[Clip], judges: dict[str, Judge]) -> None:
    """Offset and confidence of each clip by each scorer."""
    for clip in sorted(clips, key=lambda clip: clip.tier):
        results = {name: judge(clip.lips, clip.found, clip.sound) for name, judge in judges.items()}
        words = [f"{name} {_words(result)}" for name, result in results.items()]
        print(f"{clip.tier} {clip.duration_s:5.1f} s {clip.name:42} {'   '.join(words)}")


def tiers(clips: list[Clip], judge: Judge) -> str:
    """AUC of tier A above tier C."""
    scores = {tier: [_confidence(judge, c.lips, c.found, c.sound) for c in clips if c.tier == tier] for tier in "AC"}
    return f"AUC of tier A ({len(scores['A'])}) above tier C ({len(scores['C'])}): {auc(scores['A'], scores['C']):.3f}"


def swapped(clips: list[Clip], judge: Judge) -> str:
    """AUC of own sound above another clip's."""
    group = [clip for clip in clips if clip.tier == "A"]
    own, other = [], []
    for index, clip in enumerate(group):
        stranger = group[(index + 11) % len(group)]
        frames = min(len(clip.lips), len(stranger.lips), MAX_SWAPPED_FRAMES)
        if frames < LEAST_SWAPPED_FRAMES:
            continue
        for scores, sound in ((own, clip.sound), (other, stranger.sound)):
            scores.append(_confidence(judge, clip.lips[:frames], clip.found[:frames], sound[:frames]))
    spread = [" ".join(f"{value:.3f}" for value in np.percentile(scores, (10, 50, 90))) for scores in (own, other)]
    return (
        f"AUC of own above another clip's sound, tier A, up to 5 s ({len(own)}): {auc(own, other):.3f}; "
        f"10th, 50th, 90th percentile of the confidence: own {spread[0]}, other {spread[1]}"
    )


def planted(clips: list[Clip], judge: Judge, shifts: list[int], silence: Sound) -> str:
    """Share of planted offsets that are found within one frame."""
    chosen = [clip for clip in clips if clip.tier == "A" and clip.duration_s >= LEAST_S]
    to_own, to_zero, to_half = [], [], []
    for clip in chosen:
        unplanted = judge(clip.lips, clip.found, clip.sound)
        first, second = _halves(clip)
        elsewhere = judge(first.lips, first.found, first.sound)
        for shift in shifts:
            result = judge(clip.lips, clip.found, clip.sound.early(shift, silence))
            in_half = judge(second.lips, second.found, second.sound.early(shift, silence))
            assert unplanted is not None and elsewhere is not None and result is not None and in_half is not None
            to_own.append(abs(result.offset_frames - shift - unplanted.offset_frames) <= 1)
            to_zero.append(abs(result.offset_frames - shift) <= 1)
            to_half.append(abs(in_half.offset_frames - shift - elsewhere.offset_frames) <= 1)
    return (
        f"planted offsets found within a frame ({len(chosen)} clips, {len(to_own)} plants): {np.mean(to_own):.3f} against the "
        f"clip's own offset, {np.mean(to_zero):.3f} against zero, {np.mean(to_half):.3f} in one half against the other"
    )


def halves(clips: list[Clip], judge: Judge) -> str:
    """Share of clips whose halves agree, by tier; about 9 % by chance."""
    words = []
    for tier in "ABC":
        agree = []
        for clip in clips:
            if clip.tier == tier:
                one, two = (judge(half.lips, half.found, half.sound) for half in _halves(clip))
                if one is not None and two is not None:
                    agree.append(abs(one.offset_frames - two.offset_frames) <= 1)
        words.append(f"{tier} {np.mean(agree):.2f} ({len(agree)})")
    return f"halves with the same offset within a frame: {', '.join(words)}"


def auc(high: list[float], low: list[float]) -> float:
    """How often a number of the first list is above one of the second; a tie is half."""
    one, other = np.array(high)[:, None], np.array(low)[None]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def _halves(clip: Clip) -> tuple[Clip, Clip]:
    half = len(clip.lips) // 2
    cuts = (slice(0, half), slice(half, None))
    one, two = (Clip(clip.name, clip.tier, clip.lips[cut], clip.found[cut], clip.sound[cut]) for cut in cuts)
    return one, two


def _confidence(judge: Judge, lips: np.ndarray, found: np.ndarray, sound: Sound) -> float:
    result = judge(lips, found, sound)
    assert result is not None, "clips are long enough"
    return result.confidence


def _words(result: SyncResult | None) -> str:
    return "      -" if result is None else f"{result.offset_frames:+3d} conf {result.confidence:.3f}"


if __name__ == "__main__":
    sys.exit(main())
