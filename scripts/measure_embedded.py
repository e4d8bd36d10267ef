"""Measures the model's motion before it is drawn, beside its laws: lip closures, singing, silence, emotions, seeds, idle life,
cost.

Speech comes from the corpus's held-out voices, faces from the generator of synthetic people, and the truth from the
articulation rules the corpus was made with, performed by the average speaker. Prints Markdown: one line a figure with its
name, value, law, and pass or fail. (Against real speakers: scripts/score_real_speech.py.)

    python scripts/measure_embedded.py CORPUS_DIR [--preset embedded | --parts ENCODER_DIR NETWORKS_DIR] [--only lips life]
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from avatar.codec.mesh.idle import IdleMotion
from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.synthetic.corpus import SpeechShard, load_speech
from avatar.data.synthetic.faces import random_face
from avatar.data.synthetic.motion import Performance, perform
from avatar.data.synthetic.synthesise import Utterance
from avatar.dit.generate import SamplingOptions
from avatar.dit.guidance import audio_guidance
from avatar.emotion.labels import EMOTIONS
from avatar.errors import AvatarError
from avatar.evaluate.bilabials import bilabials_closed
from avatar.evaluate.closures import closures_hit, closures_hit_by_chance
from avatar.evaluate.correlation import correlation, lag_correlation
from avatar.evaluate.emotions import EmotionClassifier, clip_features, confusion
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.figures import Figure, figures_table
from avatar.evaluate.movement import blinks_per_minute, gaze_spread, head_spread_deg, jitter
from avatar.evaluate.studio import Person, Studio
from avatar.evaluate.tables import markdown_table, number
from avatar.evaluate.trial_sounds import noises, sentences, sung, with_pause
from avatar.pipeline import DEFAULT_GUIDANCE, DEFAULT_STEPS, SIGMA_SHIFT, TEMPERATURE, AvatarPipeline, assemble_pipeline
from avatar.types import Waveform

LOG = logging.getLogger("measure_embedded")
PAUSE_MARGIN_S = 0.5  # the mouth may close and open around a pause
# Means of 37 real clips of about 7 s: "true head °" and "true gaze" of score_real_speech.py.
REAL_HEAD_SPREAD_DEG, REAL_GAZE_SPREAD, REAL_CLIP_S = 5.1, 0.011, 7.0
PEOPLE_SEED, TEACHER_SEED = 7_000, 8_000  # people and performances that training has not seen
STRENGTHS = (0.3, 0.6, 1.0)
TEACHER_CLIPS = 40  # per label
NUM_SEEDS = 5
LIFE_S = 40.0
MIN_SHIFT_FRAMES = 25


@dataclasses.dataclass(frozen=True)
class Trial:
    """What all measurements are given.

    Attributes:
        studio: the model.
        shards: the held-out voices.
        people: who speak.
        count: sentences of each voice.
    """

    studio: Studio
    shards: list[SpeechShard]
    people: list[Person]
    count: int


def measure_lips(trial: Trial) -> list[Figure]:
    """Bilabials, likeness to the articulation rules, and trembling, on the held-out voices."""
    closed, by_chance, by_rules, jitters, likeness = [], [], [], [], {}
    for index, sentence in enumerate(sentences(trial.shards, trial.count)):
        truth = teacher_track(sentence.utterance).opening
        person = trial.people[index % len(trial.people)]
        opening = FaceTrack.from_motion(trial.studio.speak(person, sentence.waveform, seed=index)[0]).opening
        closed.append(bilabials_closed(opening, sentence.utterance, MOTION_FPS))
        elsewhere = np.roll(opening, len(opening) // 2)
        by_chance.append(bilabials_closed(elsewhere, sentence.utterance, MOTION_FPS))
        by_rules.append(bilabials_closed(truth, sentence.utterance, MOTION_FPS))
        length = min(len(opening), len(truth))
        likeness.setdefault(sentence.voice, []).append(lag_correlation(opening[:length], truth[:length]))
        jitters.append((jitter(opening) ** 2, jitter(truth) ** 2))
    together = [r for voice in likeness.values() for r in voice]
    ours, rules = np.sqrt(np.mean(jitters, axis=0))
    return [
        Figure("/p b m/ with closed lips within 60 ms", np.concatenate(closed).mean(), at_least=0.95),
        Figure("the same, mouth out of place", np.concatenate(by_chance).mean()),
        Figure("the same, by the rules", np.concatenate(by_rules).mean()),
        Figure("lip opening against the rules, r", _mean_r(together), at_least=0.85),
        Figure("its lag, frames", float(np.mean([r.lag_frames for r in together])), at_least=-1, at_most=1),
        *(Figure(f"the same r, {voice}", _mean_r(values)) for voice, values in likeness.items()),
        Figure("jitter of the lips, times the rules'", ours / rules, at_most=1),
    ]


def measure_singing(trial: Trial) -> list[Figure]:
    """The same sentences sung: slow, with a melody and vibrato."""
    likeness = []
    for index, sentence in enumerate(sentences(trial.shards, max(1, trial.count // 3))):
        song = sung(sentence, np.random.default_rng(index))
        truth = teacher_track(song.utterance).opening
        person = trial.people[index % len(trial.people)]
        opening = FaceTrack.from_motion(trial.studio.speak(person, song.waveform, seed=index)[0]).opening
        length = min(len(opening), len(truth))
        likeness.append(lag_correlation(opening[:length], truth[:length]))
    return [Figure("lip opening against the rules in singing, r", _mean_r(likeness), at_least=0.7)]


def measure_silence(trial: Trial) -> list[Figure]:
    """The mouth in pauses and in noise that nobody speaks in."""
    rng = np.random.default_rng(TEACHER_SEED)
    silent, spoken = [], []
    pairs = sentences(trial.shards, 2)
    for before, after in zip(pairs[: len(trial.shards)], pairs[len(trial.shards) :], strict=True):
        speech, (start, end) = with_pause(before, after, rng)
        opening = FaceTrack.from_motion(trial.studio.speak(trial.people[0], speech)[0]).opening
        first, last = (round(t * MOTION_FPS) for t in (start + PAUSE_MARGIN_S, end - PAUSE_MARGIN_S))
        silent.append(opening[first:last])
        spoken.append(np.concatenate([opening[: round(start * MOTION_FPS)], opening[round(end * MOTION_FPS) :]]))
    variances = [np.mean([part.var() for part in parts]) for parts in (silent, spoken)]
    figures = [
        Figure("variance of the opening in pauses over that in speech", variances[0] / variances[1], at_most=0.02),
        Figure("95th percentile of the opening in pauses", np.percentile(np.concatenate(silent), 95), at_most=0.03),
    ]
    for name, sound in noises(trial.shards, rng).items():
        opening = FaceTrack.from_motion(trial.studio.speak(trial.people[0], sound)[0]).opening
        figures.append(Figure(f"the same in {name}", np.percentile(opening, 95), at_most=0.03))
    return figures


def measure_emotions(trial: Trial) -> list[Figure]:
    """Labels told apart, strengths in order, and lips that still follow; prints the confusions and the strengths."""
    classifier, on_rules = _taught(trial)
    asked = tuple(f"{label}:{strength}" for label in EMOTIONS for strength in STRENGTHS)
    full = slice(len(STRENGTHS) - 1, None, len(STRENGTHS))
    features, sync = [], []
    for sentence in sentences(trial.shards, 1):
        truth = teacher_track(sentence.utterance).opening
        for seed, person in enumerate(trial.people):
            motions = trial.studio.speak(person, sentence.waveform, asked, seed)
            features.append([clip_features(motion.expression) for motion in motions])
            length = min(len(motions[0]), len(truth))
            openings = [FaceTrack.from_motion(motion[:length]).opening for motion in motions[full]]
            sync.append([lag_correlation(opening, truth[:length]).best for opening in openings])
    table = np.array(features).reshape(len(features), len(EMOTIONS), len(STRENGTHS), -1)  # clips, labels, strengths
    true = np.tile(np.arange(len(EMOTIONS)), len(table))
    predicted = classifier.predict(table[:, :, -1].reshape(len(true), -1))
    shown = np.stack([classifier.strength(table[:, k], k).mean(axis=0) for k in range(1, len(EMOTIONS))])
    _print_emotions(confusion(true, predicted, len(EMOTIONS)), shown)
    kept = np.nanmean(sync, axis=0)
    worst = int(np.argmin(kept))
    return [
        Figure("emotions told from the motion, share right", float((true == predicted).mean()), at_least=0.8),
        Figure("the same, other performances of the rules", on_rules),
        Figure(
            "labels whose strength rises from .3 to .6 to 1", int((np.diff(shown) > 0).all(axis=1).sum()), at_least=7
        ),
        Figure("lip opening against the rules, r, neutral", kept[0]),
        Figure(f"share of that kept by the worst, {EMOTIONS[worst]}", kept[worst] / kept[0], at_least=0.95),
    ]


def measure_life(trial: Trial) -> list[Figure]:
    """What differs between seeds, and how much of it there is, with the idle movement that the pipeline adds."""
    tracks_of = [
        [_lively(trial, sentence.waveform, index * NUM_SEEDS + k) for k in range(NUM_SEEDS)]
        for index, sentence in enumerate(sentences(trial.shards, 1))
    ]
    pairs = [pair for tracks in tracks_of for pair in combinations(tracks, 2)]
    yaw, pitch = (_mean_likeness(pairs, lambda track, k=k: track.head_deg[:, k]) for k in range(2))
    gaze = _mean_likeness(pairs, lambda track: track.gaze[:, 0])
    hit = np.nanmean([closures_hit(a.opening, b.opening) for a, b in pairs])
    chance = np.nanmean([closures_hit_by_chance(a.opening, b.opening, MIN_SHIFT_FRAMES) for a, b in pairs])
    spoken = np.concatenate([sentence.waveform.samples for sentence in sentences(trial.shards, trial.count)])
    speech = Waveform(np.resize(spoken, round(LIFE_S * 16_000)))
    long = [_lively(trial, speech, 100 + seed) for seed in range(3)]
    window = round(REAL_CLIP_S * MOTION_FPS)
    pieces = [track[start : start + window] for track in long for start in range(0, track.num_frames - window, window)]
    return [
        Figure("lip opening between seeds, r", _mean_likeness(pairs, lambda track: track.opening), at_least=0.9),
        Figure("lip closures of one seed made by another", hit, at_least=0.95),
        Figure("the same by chance", chance),
        Figure("yaw between seeds, r", yaw, at_least=-0.5, at_most=0.5),
        Figure("pitch between seeds, r", pitch, at_least=-0.5, at_most=0.5),
        Figure("gaze between seeds, r", gaze, at_least=-0.5, at_most=0.5),
        Figure("blinks per minute", np.mean([blinks_per_minute(t.eyes, t.fps) for t in long]), at_least=8, at_most=30),
        Figure(
            "spread of the head in 7 s, degrees",
            np.mean([head_spread_deg(piece.head_deg) for piece in pieces]),
            at_least=REAL_HEAD_SPREAD_DEG / 2,
            at_most=REAL_HEAD_SPREAD_DEG * 2,
        ),
        Figure(
            "spread of the gaze in 7 s, parts of the outer-eye distance",
            np.mean([gaze_spread(piece.gaze) for piece in pieces]),
            at_least=REAL_GAZE_SPREAD / 2,
            at_most=REAL_GAZE_SPREAD * 2,
        ),
    ]


def measure_cost(trial: Trial) -> list[Figure]:
    """Encoder and transformer, neutral, once all is warm: the median sentence."""
    wall, processor = [], []
    for sentence in sentences(trial.shards, 3):
        start, start_cpu = time.perf_counter(), time.process_time()
        trial.studio.latents(trial.people[0], sentence.waveform, ("neutral",), 0)
        wall.append((time.perf_counter() - start) / sentence.utterance.duration_s)
        processor.append((time.process_time() - start_cpu) / sentence.utterance.duration_s)
    return [
        Figure(f"s per s of video, {torch.get_num_threads()} threads", float(np.median(wall[1:])), at_most=0.25),
        Figure("CPU s per s of video", float(np.median(processor[1:]))),
    ]


def teacher_track(utterance: Utterance, performance: Performance | None = None, seed: int = 0) -> FaceTrack:
    """The articulation rules' own face, by the average performer unless told."""
    return FaceTrack.from_motion(_teacher_motion(utterance, performance or Performance(), seed))


def _teacher_motion(utterance: Utterance, performance: Performance, seed: int) -> MeshMotion:
    rig = default_rig()
    return perform(utterance, rig, performance, np.random.default_rng(seed)).mesh(rig)


def _taught(trial: Trial) -> tuple[EmotionClassifier, float]:
    """A classifier of the rules' performances, and its share of right answers on others of other sentences."""
    said = sentences(trial.shards, TEACHER_CLIPS // len(trial.shards) + 1, skip=1)
    features, labels = [], []
    for index, sentence in enumerate(said):
        for label in range(len(EMOTIONS)):
            rng = np.random.default_rng((TEACHER_SEED, index, label))
            weights = tuple(float(k == label) for k in range(len(EMOTIONS)))
            sampled = Performance.sample(rng, random_face(rng)[1])
            performance = dataclasses.replace(sampled, emotion=weights, expression={})
            features.append(clip_features(_teacher_motion(sentence.utterance, performance, index).expression))
            labels.append(label)
    known, answers = np.array(features), np.array(labels)
    cut = len(EMOTIONS) * (len(said) * 3 // 4)
    right = EmotionClassifier.fit(known[:cut], answers[:cut]).predict(known[cut:]) == answers[cut:]
    return EmotionClassifier.fit(known, answers), float(right.mean())


def _lively(trial: Trial, speech: Waveform, seed: int) -> FaceTrack:
    motion = trial.studio.speak(trial.people[0], speech, seed=seed)[0]
    return FaceTrack.from_motion(motion + IdleMotion(seed).frames(0, len(motion)))


def _mean_likeness(pairs: list[tuple[FaceTrack, FaceTrack]], curve: Callable[[FaceTrack], np.ndarray]) -> float:
    return float(np.nanmean([correlation(curve(a), curve(b)) for a, b in pairs]))


def _mean_r(values: list) -> float:
    return float(np.nanmean([value.best for value in values]))


def _print_emotions(counts: np.ndarray, shown: np.ndarray) -> None:
    lines = [[label, *map(str, row)] for label, row in zip(EMOTIONS, counts.tolist(), strict=True)]
    print(markdown_table(["asked ↓, told →", *EMOTIONS], lines))
    print()
    strengths = [[label, *map(number, row)] for label, row in zip(EMOTIONS[1:], shown.tolist(), strict=True)]
    print(markdown_table(["strength shown at", *map(str, STRENGTHS)], strengths))
    print()


MEASUREMENTS: dict[str, Callable[[Trial], list[Figure]]] = {
    "lips": measure_lips,
    "singing": measure_singing,
    "silence": measure_silence,
    "emotions": measure_emotions,
    "life": measure_life,
    "cost": measure_cost,
}


def main() -> int:
    args = _parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        trial = _trial(args)
    except AvatarError as err:
        LOG.error("%s", err)
        return err.exit_code
    figures: list[Figure] = []
    for name in args.only:
        start = time.perf_counter()
        figures += MEASUREMENTS[name](trial)
        LOG.info("%s: %.0f s", name, time.perf_counter() - start)
    print(figures_table(figures))
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="made by scripts/make_embedded_corpus.py")
    parser.add_argument("--preset", default="embedded", help="preset or folder of a pipeline (default: %(default)s)")
    parser.add_argument(
        "--parts", type=Path, nargs=2, metavar=("ENCODER", "NETWORKS"), help="a run's parts instead, not yet assembled"
    )
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument("--limit", type=int, default=10, help="sentences of each voice (default: %(default)s)")
    parser.add_argument("--people", type=int, default=4, help="how many people speak (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    return parser.parse_args()


def _trial(args: argparse.Namespace) -> Trial:
    pipe = assemble_pipeline(*args.parts) if args.parts else AvatarPipeline.from_pretrained(args.preset)
    for component in filter(None, pipe.components.values()):
        component.float().eval()
    sampling = SamplingOptions(args.steps, SIGMA_SHIFT, audio_guidance(args.guidance), args.temperature)
    studio = Studio(**pipe.components, plan=pipe.plan, sampling=sampling)
    people = [studio.person(PEOPLE_SEED + k) for k in range(args.people)]
    return Trial(studio, load_speech(args.corpus, "held-out"), people, args.limit)


if __name__ == "__main__":
    sys.exit(main())
