"""Chunks of a long video."""

from __future__ import annotations

import pytest

from avatar.errors import OptionError
from avatar.wan.plan import Chunk, plan_chunks


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
