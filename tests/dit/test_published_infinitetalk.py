"""InfiniteTalk's driver: what is pinned, what is kept, and that nothing goes through the codec on the way."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.published.infinitetalk import (
    TalkChunk,
    extended_audio,
    generate_talk,
    last_latents,
    plan_talk,
    reencoded,
)
from avatar.dit.sampler import flow_sigmas, sample_euler
from avatar.errors import OptionError


@pytest.mark.parametrize("num_frames", [1, 81, 82, 153, 200, 1000])
def test_kept_frames_and_latents_follow_one_another(num_frames: int) -> None:
    chunks = plan_talk(num_frames)
    frames = [each.start + place for each in chunks for place in range(*each.kept_frames)]
    assert frames == list(range(len(frames))) and len(frames) >= num_frames
    latents = sum(stop - start for start, stop in (each.kept_latents for each in chunks))
    assert 1 + 4 * (latents - 1) == len(frames)


def test_the_sound_goes_on_backwards_after_its_end() -> None:
    assert extended_audio(5, 7).tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    assert extended_audio(3, 8).tolist() == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1]
    assert extended_audio(10, 7).tolist() == list(range(10))


def _run(handover=last_latents) -> tuple[list[TalkChunk], list[torch.Tensor], list[torch.Tensor]]:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    chunks = plan_talk(200)
    known_seen = []

    def denoise(chunk: TalkChunk, known: torch.Tensor) -> torch.Tensor:
        known_seen.append(known)
        frames = chunk.kept_latents[1]
        noise = torch.randn(1, 2, frames, 2, 2, generator=generator)

        def velocity(latents: torch.Tensor, sigma: float) -> torch.Tensor:
            assert torch.equal(latents[:, :, : known.shape[2]], known)  # pinned before every step
            return latents + 1

        return sample_euler(velocity, noise, flow_sigmas(4, 7.0, "to_one"), pinned=known)

    made = list(generate_talk(denoise, torch.zeros(1, 2, 1, 2, 2), chunks, handover))
    return [chunk for chunk, _ in made], [latents for _, latents in made], known_seen


def test_motion_is_handed_over_as_latents_untouched() -> None:
    chunks, latents, known = _run()
    assert [each.shape[2] for each in known] == [1, 3, 3]
    for before, after, pinned in zip(latents, latents[1:], known[1:], strict=False):
        assert torch.equal(before[:, :, -3:], pinned) and torch.equal(after[:, :, :3], pinned)
    assert len(chunks) == 3


def test_the_published_handover_encodes_the_last_nine_frames() -> None:
    lengths = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return latents.new_zeros(1, 3, 1 + 4 * (latents.shape[2] - 1), 16, 16)

    def encode(frames: torch.Tensor) -> torch.Tensor:
        lengths.append(frames.shape[2])
        return frames.new_ones(1, 2, 1 + (frames.shape[2] - 1) // 4, 2, 2)

    _, _, known = _run(reencoded(decode, encode))
    assert lengths == [9, 9] and all((each == 1).all() for each in known[1:])


def test_lengths_that_the_codec_does_not_know_are_refused() -> None:
    with pytest.raises(OptionError, match="1 \\+ 4 k frames, not 80 and 9"):
        plan_talk(200, frame_num=80)
