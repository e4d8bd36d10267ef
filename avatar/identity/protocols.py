"""What a face detector and an identity embedder must do; each has two implementations."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from avatar.types import Face, Portrait


class FaceDetector(Protocol):
    """`mediapipe_faces.MediaPipeFaces` (the default) or `face_alignment_68.FaceAlignmentFaces`."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces in a picture (H, W, 3) uint8 RGB, largest first."""
        ...


class IdentityEmbedder(Protocol):
    """`tokens.FeatureEmbedder` (offline, the default) or `arcface.ArcFaceEmbedder`."""

    num_features: int

    def embed(self, portrait: Portrait) -> np.ndarray:
        """A unit vector (num_features,) float32; the cosine of two tells how alike two faces are."""
        ...
