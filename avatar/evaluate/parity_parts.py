"""Golden values of the parts around a transformer: speech front ends, guidance and its schedules, label rotary positions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Wav2Vec2Model

from avatar.audio.front_end import (
    conv_features,
    frames_of_chunks,
    frames_to_cover,
    hidden_states,
    speech_features,
    unit_variance,
)
from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.audio.loudness import integrated_loudness, with_loudness
from avatar.dit.guidance import (
    AdaptiveProjectedGuidance,
    echomimic_steps,
    guided_velocity,
    hunyuan_avatar_steps,
    nested_guidance,
)
from avatar.dit.long_video import (
    blend_weights,
    mirrored_places,
    overlapping_windows,
    plan_chunks,
    shift_lengths,
    shifted_audio_frames,
    shifted_windows,
)
from avatar.dit.lrope import half_masks, query_positions, region_scores, rotate, voice_positions
from avatar.dit.published.windows import num_latent_frames
from avatar.dit.sampler import flow_sigmas, sample_euler
from avatar.evaluate.parity import Row, TransformerCase, difference
from avatar.types import Conditioning, Waveform


class _Case:
    """Files of a case, and rows against its golden tensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"{folder.parent.name}/{folder.name}"
        self.facts: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        self.inputs = load_file(folder / "inputs.safetensors")
        self.golden = load_file(folder / "outputs.safetensors")

    def row(self, name: str, ours: Tensor, kind: str) -> Row:
        allowed = self.facts["tolerance"][kind]
        return Row(self.name, name, difference(ours, self.golden[name]), 0.0 if allowed == "exact" else float(allowed))

    def fact(self, name: str, ours: Any, wanted: Any, tolerance: float = 0.0) -> Row:
        """Numbers, or lists of them, that stand in case.json."""
        gap = difference(torch.tensor(ours, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64))
        return Row(self.name, name, gap, tolerance)


def check_case(folder: Path) -> list[Row]:
    """All comparisons of one case, whatever it is about."""
    kinds: dict[str, Callable[[_Case], Iterator[Row]]] = {
        "wav2vec2 front ends": _front_ends,
        "guidance rules, schedules and window indices": _guidance,
        "L-RoPE of MultiTalk / InfiniteTalk": _lrope,
    }
    about = json.loads((folder / "case.json").read_text(encoding="utf-8")).get("adapter")
    if about in kinds:
        return list(kinds[about](_Case(folder)))
    case = TransformerCase(folder)
    return list(case.rows(case.load()))


def check_folder(folder: Path) -> Iterator[Row]:
    """All cases below a folder, in order."""
    for facts in sorted(folder.rglob("case.json")):
        yield from check_case(facts.parent)


def _front_ends(case: _Case) -> Iterator[Row]:
    encoder = Wav2Vec2Model.from_pretrained(case.folder).eval()
    speech = Waveform(case.inputs["waveform"].numpy(), case.facts["sample_rate"])
    settings = case.facts["settings"]
    plain = SpeechFrontEnd("", "last", at_video_rate=False)

    samples = torch.from_numpy(unit_variance(speech.samples))[None]
    conv = conv_features(encoder, samples).detach()
    yield case.row("plain.input_values", samples, "conv_features")
    yield case.row("plain.conv_features", conv, "conv_features")
    yield case.row("plain.last_hidden_state", speech_features(encoder, speech, plain)[None], "hidden_states")

    fps, most = settings["fantasytalking"]["fps"], settings["fantasytalking"]["max_num_frames"]
    frames = frames_to_cover(speech.duration_s, fps, most)
    yield case.fact("fantasytalking.num_frames", frames, settings["fantasytalking"]["num_frames"])
    ours = speech_features(encoder, speech, replace(plain, fps=float(fps)), frames)[None]
    yield case.row("fantasytalking.last_hidden_state", ours, "hidden_states")

    loudness = settings["loudness"]
    yield case.fact("loudness.integrated", integrated_loudness(speech), loudness["integrated_lufs"], 1e-5)
    louder = with_loudness(speech, loudness["target_lufs"])
    yield case.row("loudness.normalised", torch.from_numpy(louder.samples), "loudness")
    stack = SpeechFrontEnd("", "stack", at_video_rate=True, loudness_lufs=loudness["target_lufs"])
    yield case.row("interpolated.hidden_stack", speech_features(encoder, speech, stack), "hidden_states")
    samples = torch.from_numpy(unit_variance(louder.samples))[None]
    with torch.no_grad():
        conv = conv_features(encoder, samples, settings["interpolated"]["frames"])
        last = hidden_states(encoder, conv)[-1]
    yield case.row("interpolated.conv_features", conv, "conv_features")
    yield case.row("interpolated.last_hidden_state", last, "hidden_states")

    omni = settings["omniavatar"]
    frames = frames_of_chunks(
        len(speech.samples), omni["fps"], omni["chunk_frames"], omni["overlap_frames"], omni["first_fixed_frames"]
    )
    yield case.fact("omniavatar.frames", frames, omni["frames"])
    every = SpeechFrontEnd("", "all", at_video_rate=True)
    yield case.row("omniavatar.features", speech_features(encoder, speech, every, frames), "hidden_states")


def _guidance(case: _Case) -> Iterator[Row]:
    text, audio = case.facts["scales"]["s_text"], case.facts["scales"]["s_audio"]
    for order in ("text_then_audio", "audio_then_text", "audio_only", "joint"):
        told = Conditioning(text_tokens=torch.ones(1), audio_tokens=torch.ones(1))

        def velocity(branch: Conditioning) -> Tensor:
            assert branch.text_tokens is not None and branch.audio_tokens is not None
            return case.inputs[f"v{int(branch.text_tokens)}{int(branch.audio_tokens)}"]

        ours = guided_velocity(velocity, told, nested_guidance(order, text, audio), 0.5)
        yield case.row(order, ours, "combinations")
    apg = case.facts["apg"]
    project = AdaptiveProjectedGuidance(text, audio, apg["momentum"], apg["norm_threshold"])
    for step in (0, 1):
        given = (case.inputs[f"apg.step{step}.{name}"] for name in ("full", "drop_text", "null"))
        yield case.row(f"apg.step{step}", project(*given), "apg")
    yield from _stepwise(case)
    yield from _schedules(case)
    yield from _windows(case)
    yield from _chunks(case)


def _stepwise(case: _Case) -> Iterator[Row]:
    facts = case.facts["hva"]
    steps = hunyuan_avatar_steps(facts["num_steps"], facts["start_scale"])
    yield case.fact("hva.scales", [step.rule[-1].scale for step in steps], facts["scales"], 1e-9)
    yield case.fact("hva.face_mask_scale", [step.face_mask_scale for step in steps], facts["face_mask_scale"])
    same_text = [step.rule[0].dropped == ("audio",) for step in steps]
    yield case.fact("hva.unconditional", same_text, [words.startswith("same text") for words in facts["unconditional"]])
    facts = case.facts["echomimic"]
    dynamic = echomimic_steps(facts["num_steps"], facts["text_scale"], facts["audio_scale"], dynamic=True)
    for index, name in ((1, "text"), (2, "audio")):
        ours = [step.rule[index].scale for step in dynamic]
        yield case.fact(f"echomimic.{name}_scales", ours, facts[f"dynamic_{name}_scales"], 1e-9)
    ours = [step.text_null_scale for step in dynamic]
    yield case.fact("echomimic.negative_prompt", ours, facts["negative_prompt_multiplier_by_step"])


def _schedules(case: _Case) -> Iterator[Row]:
    for shift in (7, 11):
        name = f"schedule.multitalk.shift{shift}"
        yield case.row(name, 1000 * flow_sigmas(len(case.golden[name]) - 1, shift, "to_one"), "schedule")
    facts = case.facts["schedule_fantasytalking"]
    sigmas = flow_sigmas(facts["num_steps"], facts["shift"])
    yield case.row("schedule.fantasytalking.sigmas", sigmas[:-1], "combinations")
    yield case.row("schedule.fantasytalking.timesteps", 1000 * sigmas[:-1], "schedule")
    sample, velocity = case.inputs["schedule.sample"], case.inputs["schedule.velocity"]
    for name, part in (("step0", sigmas[:2]), ("step_last", sigmas[-2:])):
        ours = sample_euler(lambda _latents, _sigma: velocity, sample, part)
        yield case.row(f"schedule.fantasytalking.{name}", ours, "combinations")


def _windows(case: _Case) -> Iterator[Row]:
    shift = case.facts["hva_shift"]
    for each in shift["cases"]:
        lengths = shift_lengths(each["audio_frames"])
        yield case.fact(f"{each['name']}.lengths", lengths, [each["latent_frames"], each["audio_frames_after_padding"]])
        steps = range(each["stored_steps"])
        windows = [shifted_windows(lengths[0], k, shift["window"], shift["step_offset"]) for k in steps]
        sound = [shifted_audio_frames(*lengths, k, shift["window"], shift["step_offset"]) for k in steps]
        coverage = torch.stack([torch.bincount(each.flatten(), minlength=lengths[0]) for each in windows])
        for name, ours in (("latent_index", windows), ("audio_index", sound)):
            golden = case.golden[f"{each['name']}.{name}"]
            yield case.row(f"{each['name']}.{name}", torch.stack(ours).to(golden), "indices")
        name = f"{each['name']}.coverage"
        yield case.row(name, coverage.to(case.golden[name]), "indices")
    for system, length in (("echomimic", "partial_latents"), ("stableavatar", "window_latents")):
        for each in case.facts[f"{system}_long_windows"]:
            name = f"{system}.windows.{each['total_latents']}"
            cut = overlapping_windows(each["total_latents"], each[length], each["overlap"])
            wanted = [[window["start"], window["end"]] for window in each["windows"]]
            yield case.fact(name, [[window.start, window.stop] for window in cut], wanted)
            kinds = (("linear", "weights"), ("linear", "weights_uniform"), ("log", "weights_log"))
            for kind, key in kinds:
                if key in each:
                    weights = blend_weights(each["overlap"], "log" if kind == "log" else "linear")
                    yield case.fact(f"{name}.{key}", weights.tolist(), each[key], 1e-6)


def _chunks(case: _Case) -> Iterator[Row]:
    for each in case.facts["infinitetalk"]["cases"]:
        name = f"infinitetalk.{each['audio_frames']}"
        length = min(each["audio_frames"], each["max_frames"])
        ours = plan_chunks(length, each["frame_num"], each["motion_frames"], whole=True)
        columns = ("start", "end", "reference_frame", "pinned_latents")
        wanted = [[chunk[column] for column in columns] + chunk["kept_frames"] for chunk in each["chunks"]]
        have = [[c.start, c.stop, c.start, num_latent_frames(c.known), c.fresh, c.num_frames] for c in ours]
        yield case.fact(f"{name}.chunks", have, wanted)
        heard = mirrored_places(each["audio_frames"], ours[-1].stop)
        tail = heard[each["audio_frames"] :].tolist()
        yield case.fact(f"{name}.mirrored_tail", tail, each["extended_source_index_tail"])
        centres = [heard[[c.start, c.stop - 1]].tolist() for c in ours]
        wanted = [[chunk["first_centre_source"], chunk["last_centre_source"]] for chunk in each["chunks"]]
        yield case.fact(f"{name}.centres", centres, wanted)


def _lrope(case: _Case) -> Iterator[Row]:
    given, settings = case.inputs, case.facts["settings"]
    masks = given["token_masks"]
    key = given["self_attention_key"][:, : masks.shape[1]]
    scores = region_scores(given["self_attention_query"], key, masks[None])
    labels, positions = query_positions(scores)
    voices = voice_positions(settings["tokens_per_speaker"])
    yield case.row("attention_map", scores[0], "attention_map")
    yield case.row("labels", labels[0].to(case.golden["labels"]), "labels")
    yield case.row("query_positions", positions[0], "positions")
    everywhere = voices.repeat(settings["grid"][0])
    yield case.row("key_positions", everywhere.to(case.golden["key_positions"]), "positions")
    facts = case.facts["default_masks"]
    for speaker, mask in enumerate(half_masks(facts["image_height"], facts["image_width"], facts["face_scale"]), 1):
        for axis, name in ((1, "rows"), (0, "columns")):
            inside = mask.any(axis).nonzero()
            have = [int(inside[0]), int(inside[-1]) + 1]
            yield case.fact(f"default_masks.speaker{speaker}_{name}", have, facts[f"speaker{speaker}_{name}"])
    yield case.row("query_rotated", rotate(given["audio_query"], positions), "rotated")
    yield case.row("key_rotated", rotate(given["audio_key"], everywhere), "rotated")
