"""A clip to labels: what the corpus declares wins; a model's opinion is a vector of probabilities, and off unless asked for.

A model's opinion on age, sex or ethnicity is what a network sees in a face. It is never called anything but *apparent*,
needs a stated legal basis, and never fills a declared column. datasets/README.md says why, and where the law stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.readers.layout import emotion_word
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.model_card import named_weights
from avatar.data.scorers.pretrained import PictureInput, batch_of
from avatar.errors import MissingDependencyError, OptionError, WeightsError
from avatar.identity.crop import SquareCrop
from avatar.types import MODEL_SAMPLE_RATE_HZ

_FACE_SCALE = 1.5  # of the mesh's longer side
_MIN_FACE_PX = 32
_DEMOGRAPHICS = ("age", "sex", "ethnicity")


@dataclass(frozen=True)
class _Kind:
    """Where a model's answer goes.

    Attributes:
        column: of the probabilities.
        hears: whether the model is given sound instead of faces.
    """

    column: str
    hears: bool = False


_KINDS = {
    "emotion": _Kind("emotion_probs"),
    "emotion_voice": _Kind("emotion_probs", hears=True),
    "age": _Kind("apparent_age_probs"),
    "sex": _Kind("apparent_sex_probs"),
    "ethnicity": _Kind("apparent_ethnicity_probs"),
}


@register("labels")
class LabelScorer:
    """Labels by named models; with none it has nothing to do, since declared labels are in the manifest already.

    Args:
        models: kind (emotion, emotion_voice, age, sex, ethnicity, language) to hub id or folder of a transformers classifier: of
            pictures for faces, of sound for emotion_voice and language.
        legal_basis: needed for age, sex and ethnicity, kept in label_backend: why this footage may be labelled so.
        num_frames: faces looked at, evenly spaced over the main track.
        replace_declared: whether a model is also asked where the corpus declares the label; its probabilities then stand
            beside the declared label, which stays.
        device: torch's name.
    """

    name = "labels"
    version = "2"
    columns = columns(
        *"emotion emotion_probs emotion_label_set language language_prob".split(),
        *"apparent_ethnicity_probs apparent_age_probs apparent_sex_probs label_source label_backend".split(),
    )

    def __init__(
        self,
        models: Mapping[str, str] | None = None,
        legal_basis: str = "",
        num_frames: int = 5,
        replace_declared: bool = False,
        device: str = "cpu",
    ) -> None:
        self.models = dict(models or {})
        strangers = sorted(set(self.models) - {*_KINDS, "language"})
        if strangers:
            raise OptionError(
                f"no label is called {', '.join(strangers)}; accepted: {', '.join((*_KINDS, 'language'))}"
            )
        if {"emotion", "emotion_voice"} <= set(self.models):
            raise OptionError(
                "emotion is read from the face or from the voice: name a model for one of emotion, emotion_voice"
            )
        sensitive = [kind for kind in _DEMOGRAPHICS if kind in self.models]
        if sensitive and not legal_basis.strip():
            raise OptionError(
                f"a model's opinion on {', '.join(sensitive)} is personal data of a special kind; state legal_basis (why this "
                "footage may be labelled so), or leave those models out: declared labels need none"
            )
        self.legal_basis, self.num_frames = legal_basis.strip(), num_frames
        self.replace_declared, self.device = replace_declared, device
        self.weights: tuple[WeightSpec, ...] = tuple(
            named_weights(f"{kind} classifier", name) for kind, name in self.models.items()
        )
        self._classifiers: dict[str, _Classifier] = {}

    def setup(self) -> None:
        """Loads the models.

        Raises:
            MissingDependencyError: one is neither on disk nor at the hub.
            WeightsError: one has no names for its classes.
        """
        for kind, name in self.models.items():
            hears = kind == "language" or _KINDS[kind].hears
            self._classifiers[kind] = _Classifier(kind, name, hears, self.device)

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """What the models say; columns that the corpus declares are left alone."""
        values: dict[str, Any] = {}
        names_feeling = False  # that nobody declared
        for kind, classifier in self._classifiers.items():
            declared = clip.row.get({"emotion_voice": "emotion", "age": "age_group"}.get(kind, kind))
            if declared is not None and not self.replace_declared:
                continue
            probs = self._probabilities(clip, classifier)
            if probs is None:
                continue
            likeliest = classifier.classes[int(probs.argmax())]
            if kind == "language":
                if declared is None:
                    values |= {"language": likeliest, "language_prob": float(probs.max())}
                continue
            values[_KINDS[kind].column] = probs.tolist()
            if _KINDS[kind].column == "emotion_probs":
                values["emotion_label_set"] = "|".join(classifier.classes)
                if declared is None:
                    names_feeling = True
                    values["emotion"] = emotion_word(likeliest) or likeliest
        if values:
            basis = f"; legal basis: {self.legal_basis}" if self.legal_basis else ""
            values["label_backend"] = ", ".join(map(self._words, self.models)) + basis
            said = clip.row.get("label_source")
            values["label_source"] = (f"{said} and model" if names_feeling else said) if said else "model"
        return values

    def _words(self, kind: str) -> str:
        """Which model, and of what its probabilities are, since the apparent columns have numbers only."""
        classes = f" ({'|'.join(self._classifiers[kind].classes)})" if kind in _DEMOGRAPHICS else ""
        return f"{kind}={self.models[kind]}{classes}"

    def _probabilities(self, clip: ClipMedia, classifier: _Classifier) -> np.ndarray | None:
        """Mean over faces, or of the sound; None without a face or without sound."""
        if classifier.hears:
            waveform = clip.waveform()
            return None if waveform is None else classifier.of_sound(waveform.samples)
        faces = main_faces(clip, self.num_frames, classifier.side_px)
        return classifier.of_faces(faces) if faces else None


def main_faces(clip: ClipMedia, count: int, side_px: int) -> list[np.ndarray]:
    """Upright squares (side_px, side_px, 3) uint8 about the main face, evenly spaced in time; [] where there is none."""
    tracks = clip.tracks()
    if not tracks:
        return []
    track = tracks[0]
    chosen = np.unique(np.linspace(0, len(track.frames) - 1, count + 2).round().astype(int)[1:-1])
    pictures = clip.full_frames([int(track.frames[i]) for i in chosen])
    squares = [SquareCrop.around_landmarks(track.landmarks[i], _FACE_SCALE) for i in chosen]
    pairs = zip(squares, pictures, strict=True)
    return [square.cut(picture, side_px) for square, picture in pairs if square.side_px >= _MIN_FACE_PX]


class _Classifier:
    """A transformers classifier of pictures or of sound, its softmax averaged."""

    def __init__(self, kind: str, name: str, hears: bool, device: str) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoModelForImageClassification

        self.hears, self.device, self._torch = hears, device, torch
        try:
            if hears:
                self._extractor = AutoFeatureExtractor.from_pretrained(name)
                self._model = AutoModelForAudioClassification.from_pretrained(name)
            else:
                self._input = PictureInput.read(name, crops=False)
                self._model = AutoModelForImageClassification.from_pretrained(name)
        except (OSError, ValueError, KeyError) as err:
            raise MissingDependencyError(
                f"the {kind} classifier {name!r} cannot be loaded ({err}); give the folder of a transformers model for "
                f"{'sound' if hears else 'picture'} classification, or fetch it: hf download {name}"
            ) from err
        self._model = self._model.eval().to(device)
        names = self._model.config.id2label
        self.classes = tuple(str(names[i]) for i in range(len(names)))
        if all(one.startswith("LABEL_") for one in self.classes):
            raise WeightsError(f"{name} has no names for its classes; add id2label to its config.json")
        self.side_px = 0 if hears else self._input.side_px

    def of_faces(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """(C,) mean probabilities."""
        return self._softmax(pixel_values=batch_of(np.stack(faces), self._input))

    def of_sound(self, samples: np.ndarray) -> np.ndarray:
        """(C,) probabilities of 16 kHz sound."""
        inputs = self._extractor(samples, sampling_rate=MODEL_SAMPLE_RATE_HZ, return_tensors="pt")
        return self._softmax(**inputs)

    def _softmax(self, **inputs: Any) -> np.ndarray:
        with self._torch.inference_mode():
            logits = self._model(**{name: value.to(self.device) for name, value in inputs.items()}).logits.float()
        return logits.softmax(dim=-1).mean(dim=0).cpu().numpy().astype(np.float64)
