"""Shards are plain tars of whole samples, and the index finds every file in them."""

from __future__ import annotations

import io
import json
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatar.data import ShardReader, curate
from avatar.data.clip_media import ClipMedia
from avatar.data.curation.run import rethreshold
from avatar.errors import OptionError
from avatar.media import read_video, read_waveform
from tests.data.curation.conftest import Inline

LIMITS = {"too_short": {"min": 1.0}, "small_picture": False}


@pytest.fixture
def curated(make_video: Callable[..., Path], tmp_path: Path, inline: Inline) -> Path:
    make_video("a.mp4", seconds=3, seed=1)
    make_video("b.mp4", seconds=3, seed=2, sound=False)
    config = {"scorers": [], "export": {"shard_clips": 1}, "limits": {**LIMITS, "no_sound": False}}
    curate(tmp_path / "videos", tmp_path / "out", config, inline)
    return tmp_path / "out"


def test_the_index_says_where_each_file_is_in_the_tar(curated: Path) -> None:
    reader = ShardReader(curated)
    assert len(reader) == 2
    for path in (curated / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                clip, _, ending = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None and file.read() == reader.read(clip, ending)


def test_a_sample_has_its_picture_sound_and_row(curated: Path, tmp_path: Path) -> None:
    reader = ShardReader(curated)
    clip = next(c for c in reader.clip_ids if reader.sample(c)["source_id"] == "a.mp4")
    assert reader.endings(clip) == ("json", "mp4", "wav")
    (tmp_path / "clip.mp4").write_bytes(reader.read(clip, "mp4"))
    original = np.stack(list(read_video(tmp_path / "videos" / "a.mp4"))).astype(float)
    exported = np.stack(list(read_video(tmp_path / "clip.mp4"))).astype(float)
    assert exported.shape == original.shape and np.abs(exported - original).mean() < 4
    with wave.open(io.BytesIO(reader.read(clip, "wav"))) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 48000)
    silent = next(c for c in reader.clip_ids if c != clip)
    assert reader.endings(silent) == ("json", "mp4")
    with pytest.raises(OptionError, match="has no wav; it has json, mp4"):
        reader.read(silent, "wav")


def test_the_same_clips_give_the_same_bytes_and_are_not_written_again(
    curated: Path, tmp_path: Path, inline: Inline
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (curated / "shards").glob("*.tar")}
    config = {"scorers": [], "export": {"shard_clips": 1}, "limits": {**LIMITS, "no_sound": False}}
    curate(tmp_path / "videos", curated, config, inline)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    curate(tmp_path / "videos", tmp_path / "again", config, inline)
    again = sorted(path.read_bytes() for path in (tmp_path / "again" / "shards").glob("*.tar"))
    assert again == sorted(content for content, _ in before.values())


def test_limits_that_keep_the_same_clips_leave_the_shards_alone(curated: Path, tmp_path: Path, inline: Inline) -> None:
    before = {path: path.stat().st_mtime_ns for path in (curated / "shards").glob("*.tar")}
    config = {"scorers": [], "export": {"shard_clips": 1}, "limits": {**LIMITS, "no_sound": False, "dark": False}}
    curate(tmp_path / "videos", curated, config, inline)
    assert {path: path.stat().st_mtime_ns for path in (curated / "shards").glob("*.tar")} == before


def test_a_shard_whose_clips_are_no_longer_kept_goes(curated: Path, tmp_path: Path, inline: Inline) -> None:
    config = {"scorers": [], "export": {"shard_clips": 1}, "limits": LIMITS}  # the silent one is rejected now
    curate(tmp_path / "videos", curated, config, inline)
    assert len(ShardReader(curated)) == 1 and len(list((curated / "shards").glob("*.tar"))) == 1


def test_references_hold_no_media(curated: Path, tmp_path: Path, inline: Inline) -> None:
    config = {"scorers": [], "export": {"media": "reference"}, "limits": {**LIMITS, "no_sound": False}}
    curate(tmp_path / "videos", tmp_path / "light", config, inline)
    reader = ShardReader(tmp_path / "light")
    sample = reader.sample(reader.clip_ids[0])
    assert reader.endings(reader.clip_ids[0]) == ("json",)
    frames = ClipMedia(sample).frames()  # the row is enough to see the clip
    assert len(frames) == sample["n_frames"]


def test_the_sound_is_moved_by_what_the_sync_scorer_found(make_video: Callable[..., Path]) -> None:
    path = make_video("a.mp4", seconds=4, seed=1)
    clip = ClipMedia({"clip_id": "0" * 16, "source_uri": str(path), "start_s": 1.0, "end_s": 3.0, "n_channels": 1})
    whole = read_waveform(path).samples
    delayed, hurried = clip.waveform(delayed_s=0.2), clip.waveform(delayed_s=-0.2)
    assert delayed is not None and hurried is not None
    np.testing.assert_allclose(delayed.samples, whole[round(0.8 * 16000) : round(2.8 * 16000)], atol=2e-3)
    np.testing.assert_allclose(hurried.samples, whole[round(1.2 * 16000) : round(3.2 * 16000)], atol=2e-3)
    first = ClipMedia({**clip.row, "start_s": 0.0}).waveform(delayed_s=0.5)
    assert first is not None and not first.samples[:8000].any() and len(first.samples) == 48000


def test_other_limits_leave_the_shards_alone(curated: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in (curated / "shards").glob("*"))
    rethreshold(curated, {"limits": {"too_short": {"min": 5.0}}})
    assert sorted(path.stat().st_mtime_ns for path in (curated / "shards").glob("*")) == before


def test_the_json_is_the_row(curated: Path) -> None:
    reader = ShardReader(curated)
    text = reader.read(reader.clip_ids[0], "json").decode()
    row = json.loads(text)
    assert row["clip_id"] == reader.clip_ids[0] and row["sound_delayed_ms"] == 0 and "null" not in text
