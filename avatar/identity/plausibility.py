"""Tells a human face from what merely set off the detector: animals, grass, clouds, a back of a head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avatar import face_mesh
from avatar.types import Face

# Set between what 134 frames of real talking heads and 40 pictures gave (second score 0.84 and more in all but one
# very blurred face) and what 328 false alarms gave (0.79 and less).
MIN_SECOND_SCORE = 0.81
MIN_PRESENCE = 0.5
MAX_RESIDUAL = 0.25
MAX_SPREAD = 0.2


@dataclass(frozen=True)
class MeshEvidence:
    """What speaks for and against a face.

    Attributes:
        score: the detector's confidence on the picture or tile, in [0, 1].
        second_score: its confidence on the face cut out by the mesh, 0 where its eyes, nose and mouth lie elsewhere.
        presence: the mesh network's own "this is a face", the lowest of several looks, in [0, 1].
        residual: distance of the mesh from the mean face after the similarity fit, rms, in outer-eye distances.
        spread: mean distance between two meshes of the same face cut differently, in outer-eye distances.
        keypoint_offset: mean distance between the detectors' and the mesh's eyes, nose and mouth, in the same unit.
    """

    score: float
    second_score: float
    presence: float
    residual: float
    spread: float
    keypoint_offset: float

    @classmethod
    def hopeless(cls, score: float, presence: float) -> MeshEvidence:
        """Of a place where the mesh found nothing to hold on to."""
        return cls(score, 0.0, presence, math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Candidate:
    """A place that may hold a face, with all that was measured there.

    Attributes:
        face: what the mesh makes of it.
        evidence: what speaks for a face; `is_plausible(evidence)` decides.
    """

    face: Face
    evidence: MeshEvidence


def is_plausible(evidence: MeshEvidence) -> bool:
    """Whether the evidence is that of a human (or human-like: painted, carved) face."""
    return (
        evidence.second_score >= MIN_SECOND_SCORE
        and evidence.presence >= MIN_PRESENCE
        and evidence.residual <= MAX_RESIDUAL
        and evidence.spread <= MAX_SPREAD
    )


def mesh_residual(landmarks: np.ndarray) -> float:
    """Distance (rms) between a mesh (478, 3) px and the mean face after the head fit, in outer-eye distances."""
    shape = face_mesh.fit_head(landmarks).invert(face_mesh.to_canonical_axes(landmarks))
    mean = face_mesh.canonical_vertices()
    return float(np.sqrt(((shape - mean) ** 2).sum(axis=1).mean()) / face_mesh.outer_eye_distance(mean))


def rank(candidate: Candidate) -> tuple[bool, float]:
    """Higher is better: a face before none, then the steadiest mesh that the detectors agree with, or the likeliest."""
    evidence = candidate.evidence
    if is_plausible(evidence):
        return True, -evidence.spread - evidence.keypoint_offset
    return False, evidence.second_score + evidence.presence
