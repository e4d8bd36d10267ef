"""Who can be seen in a clip and for how long: sparse looks with a cheap detector, before anything dear is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatar.identity.mediapipe_faces import TILE_SIDES, MediaPipeFaces
from avatar.identity.plausibility import is_plausible
from avatar.identity.proposals import Detection, overlap
from avatar.types import BBox, Face

LOOK_EVERY_FRAMES = 10  # at 25 fps: 2.5 looks a second, 13 ms of processor time for each second of video
MAX_VERDICTS = 8  # appearances that are looked at closely; a crowd beyond that is a crowd
TRIES = 2  # looks at one appearance before it is taken for a false alarm
CLOSER_LOOKS = 2  # frames searched in half tiles where whole pictures show nothing
MISSED_LOOKS = 2  # an appearance goes on over so many looks that did not see it
SAME_PLACE = 0.7  # sides of the box that a face may move from look to look
SAME_FACE_OVERLAP = 0.4
_CORNER = 0.3  # of the picture's sides
_CORNER_FACE = 1 / 3  # of the picture's height: a larger face near a corner is the subject


@dataclass(frozen=True)
class Sighting:
    """A detector's box in one frame."""

    frame: int
    detection: Detection


@dataclass(frozen=True)
class Appearance:
    """One face, as the sparse looks saw it.

    Attributes:
        sightings: at least one, in the order of time.
        seed_frame: the frame in which it was looked at closely.
        face: what the mesh made of it there, px of the frames.
    """

    sightings: tuple[Sighting, ...]
    seed_frame: int
    face: Face

    @property
    def span(self) -> tuple[int, int]:
        """First and last frame in which it was seen."""
        return self.sightings[0].frame, self.sightings[-1].frame

    def sides_px(self, num_frames: int) -> np.ndarray:
        """The longer side of the detector's box in every frame, (T,), between the looks by interpolation."""
        boxes = [one.detection.box for one in self.sightings]
        return np.interp(
            np.arange(num_frames), [one.frame for one in self.sightings], [max(b.width, b.height) for b in boxes]
        )

    @property
    def weight(self) -> float:
        """Looks times the face's side in px: the main face has most."""
        return len(self.sightings) * math.sqrt(self.face.bbox.width * self.face.bbox.height)


@dataclass(frozen=True)
class FirstLook:
    """What the sparse looks found.

    Attributes:
        looks: the frames that were looked at.
        appearances: main one first; empty where there is no face.
        corner_score: mean over the looks of the best detection of a small face in a corner of the picture, in [0, 1].
    """

    looks: tuple[int, ...]
    appearances: tuple[Appearance, ...]
    corner_score: float

    @property
    def n_faces_max(self) -> int:
        """The largest number of faces in the picture at once."""
        spans = [one.span for one in self.appearances]
        return max((sum(first <= look <= last for first, last in spans) for look in self.looks), default=0)

    def coverage(self, appearance: Appearance) -> float:
        """Share of the looks that saw an appearance."""
        return len(appearance.sightings) / len(self.looks)


def first_look(faces: MediaPipeFaces, frames: np.ndarray, every: int = LOOK_EVERY_FRAMES) -> FirstLook:
    """Looks at every n-th frame, joins what was seen into appearances and keeps those that hold a human face.

    Faces under about a twentieth of the picture's long side are not seen.

    Args:
        faces: the detectors.
        frames: (T, H, W, 3) uint8 RGB.
        every: frames between looks; the last frame is looked at as well.
    """
    looks = tuple(sorted({*range(0, len(frames), every), len(frames) - 1}))
    seen = [[Sighting(look, box) for box in faces.boxes(frames[look])] for look in looks]
    kept = _verified(faces, frames, _chains(seen))
    if not kept:
        middle = looks[:: max(1, len(looks) // CLOSER_LOOKS)][:CLOSER_LOOKS]
        seen = [[Sighting(look, box) for box in faces.boxes(frames[look], TILE_SIDES[1])] for look in middle]
        kept = _verified(faces, frames, _chains(seen))
        looks = middle if kept else looks
    height, width = frames[0].shape[:2]
    return FirstLook(looks, tuple(sorted(kept, key=lambda one: -one.weight)), _corner_score(kept, looks, width, height))


def _chains(seen: list[list[Sighting]]) -> list[list[Sighting]]:
    """Sightings of neighbouring looks joined where they can be the same face, the nearest first."""
    chains: list[list[Sighting]] = []
    last_look: list[int] = []
    for number, sightings in enumerate(seen):
        open_chains = [i for i, last in enumerate(last_look) if number - last <= MISSED_LOOKS + 1]
        pairs = sorted(
            (_distance(chains[i][-1].detection.box, one.detection.box), i, j)
            for i in open_chains
            for j, one in enumerate(sightings)
        )
        taken: set[int] = set()
        for distance, i, j in pairs:
            if distance < SAME_PLACE and last_look[i] < number and j not in taken:
                chains[i].append(sightings[j])
                last_look[i] = number
                taken.add(j)
        for j, one in enumerate(sightings):
            if j not in taken:
                chains.append([one])
                last_look.append(number)
    return chains


def _distance(one: BBox, other: BBox) -> float:
    """Between the centres, in sides of the larger box; infinite where one is more than twice the other."""
    sides = max(one.width, one.height), max(other.width, other.height)
    if max(sides) > 2 * min(sides):
        return math.inf
    return math.dist(one.centre, other.centre) / max(sides)


def _verified(faces: MediaPipeFaces, frames: np.ndarray, chains: list[list[Sighting]]) -> list[Appearance]:
    kept: list[Appearance] = []
    for chain in sorted(chains, key=_chain_weight, reverse=True)[:MAX_VERDICTS]:
        for sighting in sorted(chain, key=lambda one: -one.detection.score)[:TRIES]:
            candidate = faces.inspect(frames[sighting.frame], sighting.detection)
            if is_plausible(candidate.evidence):
                appearance = Appearance(tuple(chain), sighting.frame, candidate.face)
                if not any(_same(appearance, other) for other in kept):
                    kept.append(appearance)
                break
    return kept


def _chain_weight(chain: list[Sighting]) -> float:
    return len(chain) * max(math.sqrt(one.detection.box.width * one.detection.box.height) for one in chain)


def _same(one: Appearance, other: Appearance) -> bool:
    """Two boxes about one face: the detectors can differ by more than is taken for the same box."""
    together = one.span[0] <= other.span[1] and other.span[0] <= one.span[1]
    return together and overlap(one.face.bbox, other.face.bbox) > SAME_FACE_OVERLAP


def _corner_score(appearances: list[Appearance], looks: Sequence[int], width: int, height: int) -> float:
    best = dict.fromkeys(looks, 0.0)
    for sighting in (sighting for one in appearances for sighting in one.sightings):
        box = sighting.detection.box
        x, y = box.centre
        in_corner = not _CORNER < x / width < 1 - _CORNER and not _CORNER < y / height < 1 - _CORNER
        if in_corner and box.height < _CORNER_FACE * height:
            best[sighting.frame] = max(best[sighting.frame], sighting.detection.score)
    return sum(best.values()) / len(best)
