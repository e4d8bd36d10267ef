"""Chunk-by-chunk generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from avatar.dit.generate import ChunkPlan, SamplingOptions, generate_latents
from avatar.dit.guidance import audio_guidance
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError
from avatar.types import Conditioning

MakeModel = Callable[..., AvatarTransformer3DModel]
TOKEN_DIM = 20


def adapter(tokens: str, kind: str = "residual", **settings: Any) -> dict[str, Any]:
    return {"tokens": tokens, "kind": kind, "token_dim": TOKEN_DIM, **settings}


OPTIONS = SamplingOptions(2, 3.0, audio_guidance(1.5))
PLAN = ChunkPlan(chunk_frames=3, context_frames=2)


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> AvatarTransformer3DModel:
    return make_model(adapters=(adapter("audio", masked=True),), region_grid=(4, 4), prediction="sample")


class Listener:
    """Gives the conditions of any stretch, and notes what was asked for."""

    def __init__(self, num_frames: int) -> None:
        self.audio = torch.randn(1, 1, num_frames, 5, TOKEN_DIM, generator=torch.Generator().manual_seed(9))
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> Conditioning:
        self.asked.append((start, stop))
        return Conditioning(audio_tokens=self.audio[:, :, start:stop], face_mask=torch.ones(1, 1, stop - start, 2, 2))


FIRST = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(5))


def _generate(
    model: AvatarTransformer3DModel, num_frames: int, seed: int = 0, listener: Listener | None = None
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    listener = listener or Listener(num_frames)
    return list(generate_latents(model, FIRST, listener, num_frames, PLAN, OPTIONS, generator))


@pytest.mark.parametrize("num_frames", [1, 2, 4, 5, 9, 20])
def test_there_are_as_many_frames_as_asked_and_the_first_is_the_given_one(
    model: AvatarTransformer3DModel, num_frames: int
) -> None:
    blocks = _generate(model, num_frames)
    video = torch.cat(blocks, dim=2)
    assert video.shape == (1, 4, num_frames, 4, 4)
    assert video.isfinite().all()
    assert torch.equal(video[:, :, :1], FIRST)
    assert all(block.shape[2] <= PLAN.chunk_frames + 1 for block in blocks)


@pytest.mark.parametrize("num_frames", [1, 2, 4, 5, 9, 20])
def test_the_plan_covers_every_frame_once(num_frames: int) -> None:
    chunks = list(PLAN.chunks(num_frames))
    assert [frame for _, start, stop in chunks for frame in range(start, stop)] == list(range(1, num_frames))
    assert all(context == max(0, start - PLAN.context_frames) for context, start, _ in chunks)


def test_the_same_seed_gives_the_same_video_and_another_another(model: AvatarTransformer3DModel) -> None:
    one, same, other = (torch.cat(_generate(model, 9, seed), dim=2) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one[:, :, 1:], other[:, :, 1:], atol=1e-2)


def test_conditions_are_asked_in_order_and_never_for_more_than_a_chunk(model: AvatarTransformer3DModel) -> None:
    listener = Listener(200)
    _generate(model, 200, listener=listener)
    assert listener.asked == [(max(0, start - 2), min(start + 3, 200)) for start in range(1, 200, 3)]


def test_the_past_does_not_depend_on_how_long_the_video_will_be(model: AvatarTransformer3DModel) -> None:
    listener = Listener(30)
    short, long = (torch.cat(_generate(model, n, listener=listener), dim=2) for n in (10, 30))
    assert torch.equal(short, long[:, :, :10])


def test_chunks_are_made_as_they_are_asked_for(model: AvatarTransformer3DModel) -> None:
    listener = Listener(30)
    stream = generate_latents(model, FIRST, listener, 30, PLAN, OPTIONS, torch.Generator().manual_seed(0))
    next(stream)
    assert len(listener.asked) == 1


def test_context_frames_reach_the_model_clean(model: AvatarTransformer3DModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = AvatarTransformer3DModel.forward

    def spy(self, sequence, timestep, conditioning, return_dict=True):  # noqa: ANN001, ANN202
        seen.append((sequence, timestep))
        return plain(self, sequence, timestep, conditioning, return_dict)

    monkeypatch.setattr(AvatarTransformer3DModel, "forward", spy)
    video = torch.cat(_generate(model, 7), dim=2)
    per_chunk = 2 * OPTIONS.num_inference_steps  # two branches of guidance
    sequence, timestep = seen[per_chunk]  # the first call of the second chunk, frames 4 to 6
    assert torch.equal(sequence[:, :, :2], video[:, :, 2:4])
    assert timestep.tolist() == [[0, 0, 1000, 1000, 1000]]


def test_a_plan_needs_frames_and_context() -> None:
    for bad in ((0, 1), (1, 0)):
        with pytest.raises(OptionError, match="at least one new and one carried frame"):
            ChunkPlan(*bad)


def test_without_temperature_the_seed_makes_no_difference_and_a_little_of_it_makes_little(
    model: AvatarTransformer3DModel,
) -> None:
    def video(temperature: float, seed: int) -> torch.Tensor:
        options = replace(OPTIONS, temperature=temperature)
        generator = torch.Generator().manual_seed(seed)
        return torch.cat(list(generate_latents(model, FIRST, Listener(7), 7, PLAN, options, generator)), dim=2)

    assert torch.equal(video(0.0, 1), video(0.0, 2))
    apart = [float((video(t, 1) - video(t, 2)).abs().mean()) for t in (0.3, 1.0)]
    assert 0 < apart[0] < apart[1]
