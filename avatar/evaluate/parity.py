"""How near our adapters come to the published ones: golden values of their code, case by case, as a table of max |Δ|.

A case is a folder with `case.json`, `inputs.safetensors` and `outputs.safetensors`; one of a transformer also has
`config.json`, `base.safetensors` and `adapter.safetensors`: a tiny random model under the published names, what it was given,
and what the published code gave back. `tests/golden` holds some; `scripts/check_parity.py FOLDER` checks any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.dit.adapters import InputAdapter, ResidualAdapter
from avatar.dit.guidance import GuidanceOrder, guided_velocity, nested_guidance
from avatar.dit.lrope import query_positions, region_scores, token_masks
from avatar.dit.published import load_adapter
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.projectors import AudioTokens, SlotProjector, WindowProjector
from avatar.dit.published.vocal_projector import VocalProjector
from avatar.dit.published.windows import cut_slots, slot_indices, window_ranges
from avatar.dit.transformer import WAN_TEXT_TOKENS, AvatarTransformer3DModel
from avatar.dit.wan_keys import diffusers_state
from avatar.errors import InputError
from avatar.types import Conditioning

_SYSTEMS = {  # what case.json calls an adapter
    "FantasyTalking": "fantasytalking",
    "EchoMimicV3-preview": "echomimic-v3",
    "EchoMimicV3-flash": "echomimic-v3-flash",
    "MultiTalk / InfiniteTalk": "infinitetalk",
    "OmniAvatar": "omniavatar-14b",
    "StableAvatar": "stableavatar",
}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        case, quantity: what was compared.
        difference: greatest absolute difference; infinite where shapes differ, None where nothing here computes it.
        tolerance: what is allowed.
    """

    case: str
    quantity: str
    difference: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference is None or self.difference <= self.tolerance


def difference(ours: Tensor, golden: Tensor) -> float:
    """Greatest absolute difference; infinite for another shape or for what is not a number."""
    if ours.shape != golden.shape:
        return float("inf")
    gap = (ours.detach().double() - golden.double()).abs().max() if ours.numel() else torch.zeros(())
    return float("inf") if gap.isnan() else float(gap)


class TransformerCase:
    """A case of a whole transformer.

    Args:
        folder: of the case.

    Raises:
        InputError: a file is missing, or the adapter is not one that is known.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.facts: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
            self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except OSError as err:
            raise InputError(f"{folder} is no case of a transformer: {err}") from err
        if self.facts.get("adapter") not in _SYSTEMS:
            raise InputError(f"{folder}: no loader for {self.facts.get('adapter')!r}; known: {', '.join(_SYSTEMS)}")
        self.folder = folder
        self.name = f"{folder.parent.name}/{folder.name}"
        self.inputs = {name: _whole(name, value) for name, value in load_file(folder / "inputs.safetensors").items()}
        self.golden = load_file(folder / "outputs.safetensors")
        self.tolerance: dict[str, Any] = self.facts["tolerance"]

    def base(self) -> AvatarTransformer3DModel:
        """The tiny base model."""
        settings = {name: value for name, value in self.config["diffusers"].items() if not name.startswith("_")}
        settings["in_channels"] = self.config["base"]["in_dim"]
        model = AvatarTransformer3DModel(**settings).eval()
        model.load_state_dict(diffusers_state(load_file(self.folder / "base.safetensors")))
        return model

    def load(self, **options: Any) -> PublishedAdapter:
        """The base with the adapter on it."""
        if "adapter" in self.config:
            options = {"lora_alpha": self.config["adapter"]["lora_alpha"], **options}
        source = self.folder / "adapter.safetensors"
        return load_adapter(_SYSTEMS[self.facts["adapter"]], self.base(), source, **options)

    def features(self) -> list[Tensor]:
        """Speech features of each speaker."""
        if "audio_features" in self.inputs:
            return list(self.inputs["audio_features"])
        stack = self.inputs["audio_embeddings"]
        return list(stack) if stack.ndim == 4 else [stack]

    def sound(self, adapter: PublishedAdapter) -> AudioTokens:
        """The projector's tokens."""
        settings, projector = self.facts["settings"], adapter.projector
        if isinstance(projector, SlotProjector):
            return projector.audio_tokens(self.features(), settings["num_frames"], settings["audio_start_frame"])
        return projector.audio_tokens(self.features(), settings["num_frames"])

    def conditioning(self, adapter: PublishedAdapter, run: dict[str, Any]) -> Conditioning:
        """What a run is told; its null branches are what guidance would make them."""
        sound = self.sound(adapter)
        full = Conditioning(
            audio_tokens=sound.tokens,
            audio_lengths=sound.lengths if run.get("audio_padding", "masked") == "masked" else None,
            audio_null=sound.null,
            text_tokens=self.inputs["text_positive"],
            text_null=self.inputs.get("text_negative"),
            image_tokens=self.inputs.get("clip_embeds"),
            reference_latents=self.inputs["condition"],
            face_mask=self._face_mask(run),
        )
        return full.with_dropped("text") if run["text"] == "negative" else full

    def _face_mask(self, run: dict[str, Any]) -> Tensor | None:
        _, _, frames, height, width = self.inputs["latents"].shape
        height, width = height // 2, width // 2
        if "reference_masks" in self.inputs:  # of speaker 1, speaker 2 and the background, which is the rest
            speakers = token_masks(self.inputs["reference_masks"], height, width)[:2]
            return speakers[None, :, None].expand(-1, -1, frames, -1, -1)
        mask = torch.full((height, width), float(run.get("audio_scale", 1.0)))
        if run.get("face_mask", "none") != "none":
            face = self.inputs["face_mask"].reshape(height, width)
            mask = mask * (face if run["face_mask"] == "face" else 1 - face)
        return mask.expand(1, 1, frames, -1, -1)

    @torch.no_grad()
    def velocity(self, adapter: PublishedAdapter, timestep: float, conditioning: Conditioning) -> Tensor:
        """The model's output."""
        batch = 1 if conditioning.text_tokens is None else len(conditioning.text_tokens)
        latents = self.inputs["latents"].expand(batch, -1, -1, -1, -1)
        times = torch.tensor([timestep], dtype=torch.float32).expand(batch)
        return adapter.transformer(latents, times, conditioning, return_dict=False)[0]

    def rows(self, adapter: PublishedAdapter) -> Iterator[Row]:
        """All comparisons of the case."""
        for name, ours in self._front_end(adapter):
            exact = not self.golden[name].is_floating_point()
            yield self._row(name, ours, "integers" if exact else "front_end_intermediates")
        for run in self.facts["runs"]:
            yield from self._run(adapter, run)
        for combination in self.facts.get("guided", ()):
            yield self._row(combination["output"], self._guided(adapter, combination), "guided")
        if "batched" in self.facts:
            yield self._row(self.facts["batched"]["output"], self._batched(adapter), "output")

    def _row(self, name: str, ours: Tensor | None, kind: str) -> Row:
        allowed = self.tolerance.get(kind, self.tolerance["output"])
        gap = None if ours is None else difference(ours, self.golden[name])
        return Row(self.name, name, gap, 0.0 if allowed == "exact" else float(allowed))

    @torch.no_grad()
    def _run(self, adapter: PublishedAdapter, run: dict[str, Any]) -> Iterator[Row]:
        with seen(adapter) as tensors:
            velocity = self.velocity(adapter, run["timestep"], self._step(adapter, run))
        if run["output"] in self.golden:
            yield self._row(run["output"], velocity, "output")
        sound = self.sound(adapter)
        tokens = sound.null if run.get("audio") == "zero_features" else sound.tokens
        tensors["projected_tokens"] = sound.tokens[0] if tokens is None else tokens[0]
        if "block0.lrope.positions" in tensors:
            tensors.update(self._labels(tensors))
        for name in run.get("intermediates", ()):
            what = name.removeprefix(run["output"] + ".")
            if name not in self.golden:  # a case may keep some of its tensors only
                continue
            ours = tensors.get(what)
            if ours is not None:
                ours = ours.reshape(self.golden[name].shape) if ours.numel() == self.golden[name].numel() else ours
            yield self._row(name, ours, _kind(what))

    def _step(
        self, adapter: PublishedAdapter, run: dict[str, Any], conditioning: Conditioning | None = None
    ) -> Conditioning:
        """The conditions of a run, with what the projector makes of the latents, and silence."""
        told = self.conditioning(adapter, run) if conditioning is None else conditioning
        told = adapter.at_step(self.inputs["latents"], torch.tensor([float(run["timestep"])]), told)
        return told.with_dropped("audio") if run.get("audio", "on") != "on" else told

    def _guided(self, adapter: PublishedAdapter, combination: dict[str, Any]) -> Tensor:
        full = next(run for run in self.facts["runs"] if run["output"] == combination["full"])
        joint = combination.get("s")
        order: GuidanceOrder = "audio_only"
        if joint is not None:
            order = "joint"
        elif "null" in combination:
            order = "text_then_audio" if "text_only" in combination else "audio_then_text"
        rule = nested_guidance(order, combination.get("s_text", joint or 1.0), combination.get("s_audio", joint or 1.0))
        with torch.no_grad():
            told = self._step(adapter, full)
        return guided_velocity(
            lambda branch: self.velocity(adapter, full["timestep"], branch), told, rule, full["timestep"] / 1000
        )

    def _batched(self, adapter: PublishedAdapter) -> Tensor:
        """Negative text and silence, text and silence, text and sound in one batch."""
        facts = self.facts["batched"]
        told = self.conditioning(adapter, {**facts, "text": "positive"})
        branches = [told.with_dropped("text", "audio"), told.with_dropped("audio"), told]
        names = ("audio_tokens", "text_tokens", "image_tokens", "reference_latents", "face_mask")
        stacked = {name: torch.cat([getattr(branch, name) for branch in branches]) for name in names}
        return self.velocity(adapter, facts["timestep"], replace(told, **stacked))

    def _labels(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """L-RoPE of block 0, from the queries and keys it had."""
        query, key = tensors.pop("block0.query"), tensors.pop("block0.key")
        grid = [size // 2 for size in self.inputs["latents"].shape[-2:]]
        regions = token_masks(self.inputs["reference_masks"], *grid).flatten(1)[None]
        scores = region_scores(query, key[:, : regions.shape[-1]], regions)
        return {"block0.lrope.attention_map": scores[0], "block0.lrope.labels": query_positions(scores)[0][0]}

    @torch.no_grad()
    def _front_end(self, adapter: PublishedAdapter) -> Iterator[tuple[str, Tensor | None]]:
        """Every `inter.*` of the case, and what we have for it."""
        ours = self._slots(adapter) if isinstance(adapter.projector, SlotProjector) else self._windows(adapter)
        for name in sorted(self.golden):
            if name.startswith("inter."):
                yield name, ours.get(name.removeprefix("inter."))

    def _slots(self, adapter: PublishedAdapter) -> dict[str, Tensor]:
        settings, features = self.facts["settings"], torch.stack(self.features())
        start, frames = settings["audio_start_frame"], settings["num_frames"]
        indices = slot_indices(features.shape[1], start, frames)
        sound = self.sound(adapter)
        found = {
            "window_indices": indices,
            "audio_windows": features[:, indices],
            "audio_slots": cut_slots(features, start, frames)[1],
            "projected_tokens": sound.tokens[0],
        }
        if sound.null is not None:
            found["null_projected_tokens"] = sound.null[0, :, :2]
        if "reference_masks" in self.inputs:
            grid = [size // 2 for size in self.inputs["latents"].shape[-2:]]
            found["token_masks"] = token_masks(self.inputs["reference_masks"], *grid).flatten(1)
        return found

    def _windows(self, adapter: PublishedAdapter) -> dict[str, Tensor]:
        projector, sound = adapter.projector, self.sound(adapter)
        if self.facts["adapter"] == "OmniAvatar":
            packed = sound.tokens[:, 0, :, 0]
            added = [part for part in adapter.transformer.modules() if isinstance(part, InputAdapter)]
            conditions = [part.proj(packed) for part in added]
            return {"packed_audio": packed, "audio_conditions": torch.stack(conditions, dim=1)}
        features = self.inputs["audio_features"]
        frames = self.facts["settings"].get("frames_used_by_window_arithmetic", self.facts["settings"]["num_frames"])
        project = projector.proj_model if isinstance(projector, VocalProjector) else projector
        assert isinstance(project, WindowProjector)
        ranges = torch.tensor(window_ranges(features.shape[1], frames))
        first, last = ranges.clamp(0, features.shape[1] - 1).unbind(-1)
        return {
            "projected_tokens": project(features),
            "window_ranges": ranges,
            "audio_tokens": sound.tokens[0],
            "audio_lens": last - first + 1 if sound.lengths is None else sound.lengths[0, 0],
            "audio_lens_unused": last - first + 1,
            "null_projected_token": project(torch.zeros_like(features[:, :1])),
        }


def _whole(name: str, value: Tensor) -> Tensor:
    """Text as it was, with its zeros at the end, which small copies of a case leave out."""
    if not name.startswith("text_") or value.ndim != 3:
        return value
    return nn.functional.pad(value, (0, 0, 0, WAN_TEXT_TOKENS - value.shape[1]))


def _kind(what: str) -> str:
    """The tolerance of an intermediate."""
    if what.startswith("time_"):
        return "time_embedding"
    if what.endswith("labels"):
        return "integers"
    if what.endswith("_positions"):
        return "lrope_positions"
    return "front_end_intermediates" if what in ("projected_tokens", "patch_embedding") else "block_intermediates"


@contextmanager
def seen(adapter: PublishedAdapter) -> Iterator[dict[str, Tensor]]:
    """What passes through a transformer while this is open, under the names golden values have."""
    tensors: dict[str, Tensor] = {}
    model = adapter.transformer
    handles = []

    def keep(name: str, module: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors[name] = output[0] if isinstance(output, tuple) else output
            if isinstance(output, tuple) and len(output) == 3:
                tensors["block0.query"], tensors["block0.key"] = output[1:]

        handles.append(module.register_forward_hook(hook))

    def keep_positions(_module: nn.Module, _inputs: Any, keywords: dict[str, Any]) -> None:
        if keywords.get("positions") is not None:
            tensors["block0.lrope.positions"] = tensors["block0.lrope.query_positions"] = keywords["positions"][0]
            tensors["block0.lrope.key_positions"] = keywords["positions"][1]

    embedder = model.condition_embedder.time_embedder
    handles.append(embedder.register_forward_pre_hook(lambda _m, given: tensors.update(time_sinusoid=given[0])))
    keep("time_embedding", embedder)
    keep("patch_embedding", model.patch_embedding)
    for index, block in enumerate(model.blocks):
        keep(f"block{index}", block)
    keep("block0.self_attn", model.get_submodule("blocks.0.attn1"))
    keep("block0.cross_attn", model.get_submodule("blocks.0.attn2"))
    if isinstance(adapter.projector, VocalProjector):
        keep("vocal_tokens", adapter.projector)
        keep("vocal_projector.block0.cross_attn", adapter.projector.get_submodule("blocks.0.cross_attn"))
        for index, block in enumerate(adapter.projector.blocks):
            keep(f"vocal_projector.block{index}", block)
    own = dict(model.named_modules()).get("blocks.0.adapters.audio")
    if isinstance(own, ResidualAdapter):
        keep("block0.norm_x", own.norm)
        keep("block0.audio_cross_attn", own)
        handles.append(own.register_forward_pre_hook(keep_positions, with_kwargs=True))
    try:
        yield tensors
    finally:
        for handle in handles:
            handle.remove()
