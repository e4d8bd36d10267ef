"""Is a feeling told from the motion of a face alone, and does more of it show more?

A classifier that knows only the rig's own performances (linear discriminant analysis: one mean per label and one
covariance for all) judges motion that was generated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar import face_mesh

SETTLING_FRAMES = 20  # in which a video goes from the photo's own expression to the one that is felt
_SHRINKAGE = 0.2  # of the covariance towards its diagonal: a few hundred examples, and two numbers per measure

# Heights (y) of single points, canonical units: the person's right, then left.
_HEIGHTS = {
    "inner brow": (55, 285),
    "middle of the brow": (105, 334),
    "outer brow": (70, 300),
    "upper lid": (159, 386),
    "lower lid": (145, 374),
    "cheek": (50, 280),
    "wing of the nose": (64, 294),
    "corner of the mouth": face_mesh.MOUTH_CORNERS,
}
_MIDDLE_HEIGHTS = {"upper lip": 0, "lower lip": 17}
_DISTANCES = {"between the brows": (55, 285), "width of the mouth": face_mesh.MOUTH_CORNERS}


def expression_measures(expression: np.ndarray) -> np.ndarray:
    """How far a few places of the face are from rest.

    Args:
        expression: (T, 478, 3) displacement, canonical units.

    Returns:
        (T, 20): heights of the brows, lids, cheeks, nose and mouth on both sides, of the lips' middles, and two widths.
    """
    sides = [expression[:, point, 1] for pair in _HEIGHTS.values() for point in pair]
    middles = [expression[:, point, 1] for point in _MIDDLE_HEIGHTS.values()]
    widths = [expression[:, left, 0] - expression[:, right, 0] for right, left in _DISTANCES.values()]
    return np.stack([*sides, *middles, *widths], axis=1)


def clip_features(expression: np.ndarray) -> np.ndarray:
    """Mean and spread over a clip (T, 478, 3) of every measure, (40,), once the expression has settled."""
    measures = expression_measures(expression[SETTLING_FRAMES:])
    return np.concatenate([measures.mean(axis=0), measures.std(axis=0)])


@dataclass(frozen=True)
class EmotionClassifier:
    """Linear discriminant analysis.

    Attributes:
        means: (K, D) of each label's features.
        precision: (D, D) inverse of the covariance within labels.

    Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936, for equal priors; the shrunken
    covariance is J. H. Friedman, "Regularized discriminant analysis", 1989.
    """

    means: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> EmotionClassifier:
        """Learns from examples.

        Args:
            features: (N, D).
            labels: (N,) int in [0, K), each at least once.
        """
        means = np.stack([features[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
        within = features - means[labels]
        covariance = within.T @ within / max(1, len(features) - len(means))
        diagonal = np.diag(np.diag(covariance) + 1e-6)
        return cls(means, np.linalg.inv((1 - _SHRINKAGE) * covariance + _SHRINKAGE * diagonal))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The nearest label (N,) of features (N, D), in Mahalanobis distance."""
        offsets = features[:, None] - self.means
        return np.einsum("nkd,de,nke->nk", offsets, self.precision, offsets).argmin(axis=1)

    def strength(self, features: np.ndarray, label: int, neutral: int = 0) -> np.ndarray:
        """How far features (N, D) have gone from neutral (0) to a label (1), along the direction that tells the two apart."""
        way = self.means[label] - self.means[neutral]
        axis = self.precision @ way
        return (features - self.means[neutral]) @ axis / (way @ axis)


def confusion(true: np.ndarray, predicted: np.ndarray, num_labels: int) -> np.ndarray:
    """Counts (K, K): a row per true label, a column per predicted one."""
    counts = np.zeros((num_labels, num_labels), int)
    np.add.at(counts, (true, predicted), 1)
    return counts
