"""Denoising one chunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline

from avatar.codec.wan import WanCodec
from avatar.debug import write_debug_repository
from avatar.dit.guidance import GuidanceBranch, GuidanceStep
from avatar.dit.published.fantasytalking import PRESET
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.projectors import WindowProjector
from avatar.dit.sampler import shifted_sigmas
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError
from avatar.types import Conditioning
from avatar.wan.denoise import WanSampling, denoise
from avatar.wan.experts import Experts
from avatar.wan.plan import Windows

TEXT_GUIDANCE = (GuidanceBranch(("text",)), GuidanceBranch((), 3.0))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_debug_repository(tmp_path_factory.mktemp("wan") / "i2v", num_layers=2)


def _adapter(model: AvatarTransformer3DModel) -> PublishedAdapter:
    return PublishedAdapter(PRESET, model, WindowProjector(8, 8))


def _noise(frames: int = 2) -> torch.Tensor:
    return torch.randn(1, 16, frames, 4, 6, generator=torch.Generator().manual_seed(0))


def _random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _conditioning() -> Conditioning:
    return Conditioning(
        text_tokens=_random(1, 512, 32),
        text_null=_random(1, 512, 32, seed=2),
        image_tokens=_random(1, 257, 32, seed=3),
        reference_latents=_random(1, 20, 2, 4, 6, seed=4),
    )


def test_without_sound_it_is_diffusers_own_pipeline(repository: Path) -> None:
    pipeline = WanImageToVideoPipeline.from_pretrained(repository)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.encode_image = lambda *_: conditioning.image_tokens  # it cuts the middle out, which Wan does not
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    codec = WanCodec(pipeline.vae)
    image = torch.rand(1, 3, 32, 48)
    conditioning = replace(_conditioning(), reference_latents=codec.condition(2 * image[0][:, None] - 1, 5)[None])
    expected = pipeline(
        image=image,
        prompt_embeds=conditioning.text_tokens,
        negative_prompt_embeds=conditioning.text_null,
        height=32,
        width=48,
        num_frames=5,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=_noise(),
        output_type="latent",
    ).frames
    experts = Experts(_adapter(AvatarTransformer3DModel.from_wan(pipeline.transformer)))
    got = denoise(experts, conditioning, _noise(), WanSampling(pipeline.scheduler.sigmas.cpu(), TEXT_GUIDANCE))
    assert torch.allclose(got, expected, atol=1e-4)
    assert (got - _noise()).abs().max() > 0.1


def test_unipc_and_euler_come_together_with_many_steps(repository: Path) -> None:
    experts = Experts(_adapter(AvatarTransformer3DModel.from_wan(repository)))
    ends: dict[tuple[str, int], torch.Tensor] = {}
    for sampler in ("euler", "unipc"):
        for steps in (6, 40):
            sampling = WanSampling(shifted_sigmas(steps, 3.0), (GuidanceBranch(()),), sampler)  # type: ignore[arg-type]
            ends[sampler, steps] = denoise(experts, _conditioning(), _noise(), sampling)
    apart = {steps: (ends["euler", steps] - ends["unipc", steps]).norm() for steps in (6, 40)}
    assert apart[40] < 0.5 * apart[6]


def test_each_expert_has_its_noise_levels(repository: Path) -> None:
    asked: dict[str, list[float]] = {"much": [], "little": []}
    adapters = {}
    for name, levels in asked.items():
        model = AvatarTransformer3DModel.from_wan(repository)
        model.register_forward_pre_hook(lambda _, args, levels=levels: levels.append(args[1].item() / 1000))
        adapters[name] = _adapter(model)
    sigmas = torch.tensor([1.0, 0.95, 0.9, 0.5, 0.0])
    denoise(
        Experts(adapters["much"], adapters["little"], 0.9),
        _conditioning(),
        _noise(),
        WanSampling(sigmas, (GuidanceBranch(()),)),
    )
    assert asked["much"] == pytest.approx([1.0, 0.95, 0.9]) and asked["little"] == pytest.approx([0.5])
    with pytest.raises(OptionError, match="a second expert needs a boundary"):
        Experts(adapters["much"], adapters["little"])
    with pytest.raises(OptionError, match="and a boundary a second expert"):
        Experts(adapters["much"], None, 0.9)


def test_pinned_frames_are_there_in_every_step_and_at_the_end(repository: Path) -> None:
    model = AvatarTransformer3DModel.from_wan(repository)
    seen: list[Any] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pinned = _random(1, 16, 1, 4, 6, seed=9)
    sampling = WanSampling(shifted_sigmas(3, 5.0), (GuidanceBranch(()),))
    latents = denoise(Experts(_adapter(model)), _conditioning(), _noise(), sampling, pinned)
    assert len(seen) == 3
    assert all(torch.equal(x[:, :, :1], pinned) for x in (*seen, latents))


def test_progress_is_told_after_each_step(repository: Path) -> None:
    told: list[tuple[int, int]] = []
    sampling = WanSampling(shifted_sigmas(3, 5.0), TEXT_GUIDANCE)
    experts = Experts(_adapter(AvatarTransformer3DModel.from_wan(repository)))
    denoise(experts, _conditioning(), _noise(), sampling, progress=lambda *x: told.append(x))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_step_caches_keep_the_branches_apart(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    plain = AvatarTransformer3DModel.cache_context
    monkeypatch.setattr(
        AvatarTransformer3DModel, "cache_context", lambda self, name: names.append(name) or plain(self, name)
    )
    rule = (GuidanceBranch(("text", "audio")), GuidanceBranch(("audio",), 2.0), GuidanceBranch((), 3.0))
    conditioning = replace(_conditioning(), audio_tokens=torch.randn(1, 1, 2, 5, 7))
    sampling = WanSampling(shifted_sigmas(1, 5.0), rule)
    denoise(Experts(_adapter(AvatarTransformer3DModel.from_wan(repository))), conditioning, _noise(), sampling)
    assert names == ["null", "text", "text+audio"]


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(OptionError, match="the sampler must be euler or unipc, not 'ddim'"):
        WanSampling(shifted_sigmas(2, 5.0), TEXT_GUIDANCE, "ddim")  # type: ignore[arg-type]


def _long() -> Conditioning:
    return replace(
        _conditioning(),
        reference_latents=_random(1, 20, 7, 4, 6, seed=4),
        audio_tokens=_random(1, 1, 7, 5, 8, seed=5),
        face_mask=_random(1, 1, 7, 2, 3, seed=6),
    )


@pytest.mark.parametrize("windows", [Windows(3, overlap=1), Windows(3, offset=1)])
def test_long_video_in_windows_each_with_its_own_conditions(repository: Path, windows: Windows) -> None:
    model = AvatarTransformer3DModel.from_wan(repository)
    told: list[Conditioning] = []
    model.register_forward_pre_hook(lambda _, args: told.append(args[2]))
    sampling = WanSampling(shifted_sigmas(2, 5.0), (GuidanceBranch(()),), windows=windows)
    assert denoise(Experts(_adapter(model)), _long(), _noise(7), sampling).shape == (1, 16, 7, 4, 6)
    frames = [[0, 1, 2], [2, 3, 4], [4, 5, 6]] * 2
    if windows.overlap is None:
        frames = [[0, 1, 2], [3, 4, 5], [6, 0, 1], [6, 0, 1], [2, 3, 4], [5, 6, 0]]
    full = _long()
    for window, shown in zip(frames, told, strict=True):
        for name in ("reference_latents", "audio_tokens", "face_mask"):
            assert torch.equal(getattr(shown, name), getattr(full, name)[:, :, window])


def test_a_video_of_one_window_is_denoised_whole(repository: Path) -> None:
    experts = Experts(_adapter(AvatarTransformer3DModel.from_wan(repository)))
    plain, windowed = (
        denoise(experts, _conditioning(), _noise(), WanSampling(shifted_sigmas(2, 5.0), TEXT_GUIDANCE, windows=windows))
        for windows in (None, Windows(2, overlap=1))
    )
    assert torch.equal(plain, windowed)


def test_each_step_has_its_rule(repository: Path) -> None:
    """The negative prompt and the face masks are scaled in the steps that say so."""
    model = AvatarTransformer3DModel.from_wan(repository)
    told: list[Conditioning] = []
    model.register_forward_pre_hook(lambda _, args: told.append(args[2]))
    rules = (GuidanceStep(TEXT_GUIDANCE, 0.5, 2.0), GuidanceStep((GuidanceBranch(()),)))
    full = replace(_long().frames(0, 2), audio_mask=torch.ones(1, 1, 2, 2, 3))
    denoise(Experts(_adapter(model)), full, _noise(), WanSampling(shifted_sigmas(2, 5.0), rules))
    null, boosted, plain = told
    assert torch.equal(null.text_tokens, 2 * full.text_null)  # type: ignore[arg-type,operator]
    assert torch.equal(boosted.face_mask, full.face_mask / 2) and (boosted.audio_mask == 0.5).all()  # type: ignore
    assert torch.equal(plain.face_mask, full.face_mask)  # type: ignore[arg-type]


def test_projected_guidance_has_three_branches_and_a_memory(repository: Path) -> None:
    experts = Experts(_adapter(AvatarTransformer3DModel.from_wan(repository)))
    conditioning = replace(_long().frames(0, 2), face_mask=None)
    sampling = WanSampling(shifted_sigmas(3, 5.0), (GuidanceBranch(()),), projected=(3.0, 2.0))
    first, again = (denoise(experts, conditioning, _noise(), sampling) for _ in range(2))
    assert torch.equal(first, again)  # the memory is of one video alone
    plain = denoise(experts, conditioning, _noise(), replace(sampling, projected=None))
    assert (first - plain).abs().max() > 0.01
    with pytest.raises(OptionError, match="projected guidance remembers the step before, which windows do not share"):
        replace(sampling, windows=Windows(2, overlap=1))
