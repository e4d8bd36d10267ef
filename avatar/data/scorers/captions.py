"""A clip to captions on three levels, and to a vision-language model's answers to filter questions: off unless a model is named.

Object and part: the frame with the largest face, a crop of the person and the person alone, described separately; a judge
compares the two, and where they contradict each other both are discarded. Scene: the frame with the person outlined in
yellow. Video: eight frames, evenly spaced, outlined; in the same call the filter questions.

Every answer is kept in the output folder, so a stopped run asks nothing twice.

Source: Sa2VA (arXiv 2501.04001), section 3.3; MAGI-1 (arXiv 2505.13211), section 3
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers import caption_pictures as pictures
from avatar.data.scorers import caption_prompts as prompts
from avatar.data.scorers.caption_models import EndpointModel, ModelError, TransformersModel, VisionModel
from avatar.data.scorers.model_card import named_weights
from avatar.errors import OptionError
from avatar.identity.mediapipe_faces import thread_faces
from avatar.types import BBox

T = TypeVar("T")


@register("captions")
class CaptionScorer:
    """Captions and filter answers.

    Args:
        model: hub id or folder of an image-text-to-text model, or the name an endpoint knows it by.
        endpoint: an OpenAI-compatible server; None runs the model here, with transformers.
        judge: model that compares the two descriptions, run or asked likewise; None: the same one.
        retries: how often a failed or unreadable answer is asked for again.
        wait_s: before the first retry, doubled at each further one.
        temperature: of first answers; retries for unreadable ones and for conflicts are asked at 0.
        seed: of the first answer; each retry takes the next.
        options: further arguments of the model: device, max_new_tokens, api_key_env, timeout_s.
    """

    name = "captions"
    version = "1"
    columns = columns(
        *"caption_parts caption_object caption_scene caption_video caption_check caption_conflicts".split(),
        *"caption_model prompt_version mllm_flags".split(),
    )

    def __init__(
        self,
        model: str | VisionModel,
        endpoint: str | None = None,
        judge: str | VisionModel | None = None,
        retries: int = 3,
        wait_s: float = 1.0,
        temperature: float = 0.2,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if retries < 0 or wait_s < 0 or temperature < 0:
            raise OptionError(
                f"retries, wait_s and temperature are not negative; given {retries}, {wait_s}, {temperature}"
            )
        self.model = _made(model, endpoint, options)
        self.judge = self.model if judge is None else _made(judge, endpoint, options)
        self.retries, self.wait_s, self.temperature, self.seed = retries, wait_s, temperature, seed
        names = dict.fromkeys((self.model.name, self.judge.name))
        self.weights: tuple[WeightSpec, ...] = tuple(
            WeightSpec("vision-language model", endpoint, "of the endpoint's provider")
            if endpoint
            else named_weights("vision-language model", name)
            for name in names
        )
        self._person_mask: Callable[[np.ndarray], np.ndarray] | None = None

    def setup(self) -> None:
        """Loads the models."""
        self.model.setup()
        if self.judge is not self.model:
            self.judge.setup()
        self._person_mask = thread_faces().person_mask

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns; without a face track no person is described, and the check is "unchecked"."""
        asked = _Asking(self, clip)
        values: dict[str, Any] = {
            "caption_model": self.model.name,
            "prompt_version": prompts.PROMPT_VERSION,
            "caption_check": "unchecked",
        }
        tracks = clip.tracks()
        if not tracks:
            return values | self._of_video(asked, clip, None, None)
        described = self._of_person(asked, clip, tracks[0])
        values |= described
        if described["caption_check"] == "conflict":
            return values
        best = pictures.best_frame(tracks[0])
        frame = pictures.outlined(clip.frames()[best], self._region(clip, tracks[0], best))
        scene = asked.text("scene", prompts.SCENE.format(object=described["caption_object"]), [frame])
        return values | {"caption_scene": scene} | self._of_video(asked, clip, tracks[0], scene)

    def _of_person(self, asked: _Asking, clip: ClipMedia, track: FaceTrack) -> dict[str, Any]:
        """Object and part level; asked again once, with the conflicts named, before both are discarded."""
        frame = pictures.best_frame(track)
        [full] = clip.full_frames([frame])
        face = pictures.face_box(track, frame)
        parts = {
            "the face": pictures.crop(full, face.scaled(1.3)),
            "head and upper body": pictures.crop(full, pictures.body_box(face)),
        }
        masked = pictures.alone(clip.frames()[frame], self._region(clip, track, frame))
        conflicts: tuple[str, ...] = ()
        for round_ in ("", " again"):
            more, cold = prompts.named(conflicts), bool(conflicts)
            of_parts = [
                asked.text(f"part {p}{round_}", prompts.PART.format(part=p) + more, [cut], cold)
                for p, cut in parts.items()
            ]
            whole = asked.text(f"object{round_}", prompts.OBJECT + more, [masked], cold)
            question = prompts.CHECK.format(first=" ".join(of_parts), second=whole)
            verdict = asked.verdict(f"check{round_}", question)
            if verdict.is_consistent:
                return {
                    "caption_parts": of_parts,
                    "caption_object": whole,
                    "caption_check": "consistent",
                    "caption_conflicts": [],
                }
            conflicts = verdict.conflicts or ("what the judge did not name",)
        return {"caption_check": "conflict", "caption_conflicts": list(conflicts)}

    def _of_video(self, asked: _Asking, clip: ClipMedia, track: FaceTrack | None, scene: str | None) -> dict[str, Any]:
        frames = clip.frames()
        indices = pictures.even_indices(len(frames))
        shown = [frames[i] for i in indices]
        if track is not None:
            shown = [pictures.outlined(frames[i], self._region(clip, track, i)) for i in indices]
        caption, flags = asked.video("video", prompts.video_prompt(len(shown), scene, track is not None), shown)
        return {"caption_video": caption, "mllm_flags": list(flags.items())}

    def _region(self, clip: ClipMedia, track: FaceTrack, index: int) -> np.ndarray:
        """The person in a frame of the view, (H, W) bool."""
        frame, scale = clip.frames()[index], clip.scale
        mask = (self._person_mask or thread_faces().person_mask)(frame)
        box = pictures.face_box(track, index)
        in_view = BBox(box.left * scale, box.top * scale, box.right * scale, box.bottom * scale)
        return pictures.person_region(frame, mask, in_view)


class _Asking:
    """The questions about one clip: retries, and every answer kept on disk."""

    def __init__(self, scorer: CaptionScorer, clip: ClipMedia) -> None:
        self.scorer = scorer
        self.path = clip.root / "captions" / clip.clip_id[:2] / f"{clip.clip_id}.json"
        self.kept: dict[str, dict[str, Any]] = _read_kept(self.path)

    def text(self, call: str, prompt: str, shown: Sequence[np.ndarray], cold: bool = False) -> str:
        return self._asked(call, self.scorer.model, prompt, shown, prompts.read_text, cold)

    def verdict(self, call: str, prompt: str) -> prompts.Verdict:
        return self._asked(call, self.scorer.judge, prompt, [], prompts.read_verdict, True)

    def video(self, call: str, prompt: str, shown: Sequence[np.ndarray]) -> tuple[str, dict[str, str]]:
        return self._asked(call, self.scorer.model, prompt, shown, prompts.read_video, False)

    def _asked(
        self,
        call: str,
        model: VisionModel,
        prompt: str,
        shown: Sequence[np.ndarray],
        read: Callable[[str], T],
        cold: bool,
    ) -> T:
        key = _digest(f"{model.name}|{self.scorer.temperature:g}|{self.scorer.seed}", prompt, shown)
        known = self.kept.get(call)
        if known and known["key"] == key and known["status"] == "read":
            return read(known["answer"])
        scorer = self.scorer
        for attempt in range(scorer.retries + 1):
            temperature = 0.0 if cold or attempt else scorer.temperature
            seed = scorer.seed + attempt
            record = {
                "key": key,
                "model": model.name,
                "prompt_version": prompts.PROMPT_VERSION,
                "temperature": temperature,
                "seed": seed,
            }
            try:
                answer = model.ask(prompt, shown, temperature, seed)
                value = read(answer)
            except (ModelError, prompts.AnswerError) as err:
                words = {"status": "failed" if isinstance(err, ModelError) else "unreadable", "answer": str(err)}
                self._keep(call, record | words)
                if attempt == scorer.retries:
                    raise
                if isinstance(err, ModelError):
                    time.sleep(scorer.wait_s * 2**attempt)
                continue
            self._keep(call, record | {"status": "read", "answer": answer})
            return value
        raise AssertionError("the last attempt returns or raises")

    def _keep(self, call: str, record: dict[str, Any]) -> None:
        self.kept[call] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        beside.write_text(json.dumps(self.kept, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(beside, self.path)


def _made(model: str | VisionModel, endpoint: str | None, options: dict[str, Any]) -> VisionModel:
    if not isinstance(model, str):
        return model
    return TransformersModel(model, **options) if endpoint is None else EndpointModel(endpoint, model, **options)


def _digest(asked: str, prompt: str, shown: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256(f"{asked}|{prompts.PROMPT_VERSION}|{prompt}".encode())
    for picture in shown:
        digest.update(str(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()[:16]


def _read_kept(path: Path) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
