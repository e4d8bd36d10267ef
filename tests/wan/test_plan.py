"""Chunks of a long video."""

from __future__ import annotations

import pytest

from avatar.dit.long_video import Chunk, plan_chunks
from avatar.dit.published import PUBLISHED_PRESETS
from avatar.errors import OptionError
from avatar.wan.plan import Windows, plan_video


@pytest.mark.parametrize("overlap", [1, 5, 8, 25])
@pytest.mark.parametrize("num_frames", [1, 2, 80, 81, 82, 83, 300, 1501])
def test_chunks_cover_every_frame_and_share_the_overlap(num_frames: int, overlap: int) -> None:
    chunks = plan_chunks(num_frames, 81, overlap)
    assert chunks[0].start == 0 and chunks[0].known == 1
    assert chunks[-1].stop - 4 < num_frames <= chunks[-1].stop or num_frames == 1
    for before, after in zip(chunks, chunks[1:], strict=False):
        assert (after.start, after.known) == (before.stop - overlap, overlap)
        assert before.num_frames == 81
    assert all(chunk.num_frames % 4 == 1 and chunk.num_frames <= 81 for chunk in chunks)
    assert all(chunk.num_frames > chunk.known for chunk in chunks[1:])


def test_a_short_video_is_one_chunk_no_longer_than_needed() -> None:
    assert plan_chunks(10, 81, 25) == [Chunk(0, 13, 1)]


@pytest.mark.parametrize(("chunk", "overlap"), [(80, 1), (81, 0), (9, 9)])
def test_impossible_chunks_are_refused(chunk: int, overlap: int) -> None:
    with pytest.raises(OptionError, match="a chunk has 1 \\+ 4 k frames, more than it shares with the one before"):
        plan_chunks(100, chunk, overlap)


def test_a_video_is_planned_as_its_system_makes_it() -> None:
    chunks = plan_video(PUBLISHED_PRESETS["multitalk"], 200, None, None, None)
    assert (chunks.handover, chunks.windows) == ("pixels", None) and [c.known for c in chunks.chunks] == [1, 25, 25, 25]
    assert plan_video(PUBLISHED_PRESETS["infinitetalk"], 200, None, None, None).handover == "latents"
    whole = plan_video(PUBLISHED_PRESETS["stableavatar"], 200, None, None, None)
    assert [(c.start, c.num_frames) for c in whole.chunks] == [(0, 201)]
    assert whole.windows == Windows(21, overlap=5)


@pytest.mark.parametrize("num_frames", [1, 81, 82, 153, 200, 1000])
def test_kept_frames_follow_one_another(num_frames: int) -> None:
    """InfiniteTalk's chunks, which are all of one length."""
    chunks = plan_chunks(num_frames, 81, 9, whole=True)
    frames = [chunk.start + place for chunk in chunks for place in range(chunk.fresh, chunk.num_frames)]
    assert frames == list(range(len(frames))) and len(frames) >= num_frames
    assert {chunk.num_frames for chunk in chunks} == {81}
    assert plan_video(PUBLISHED_PRESETS["infinitetalk"], num_frames, None, None, None).chunks == chunks


def test_windows_can_be_asked_for_and_a_short_video_needs_none() -> None:
    preset = PUBLISHED_PRESETS["fantasytalking"]
    assert plan_video(preset, 82, 81, None, "windows").windows == Windows(21, overlap=1)
    assert plan_video(preset, 82, 81, None, "shifted").windows == Windows(21, offset=6)
    for way in ("windows", "shifted"):
        short = plan_video(preset, 81, 81, None, way)  # type: ignore[arg-type]
        assert short.windows is None and [c.num_frames for c in short.chunks] == [81]
    with pytest.raises(OptionError, match="a chunk has 1 \\+ 4 k frames"):
        plan_video(preset, 82, 80, None, "windows")
