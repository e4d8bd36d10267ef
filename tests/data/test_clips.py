"""Clips to train on: found in folders and shards, kept in a store that survives a kill."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avatar.data.clip_dataset import (
    INDEX,
    MADE_FROM,
    ClipEntry,
    ClipStore,
    buckets_of,
    cells_of,
    split_entries,
    spread_over_cells,
)
from avatar.data.clip_sources import find_clips, labels_of
from avatar.errors import InputError, OptionError


def test_a_store_gives_back_windows_of_what_was_put_in(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, {"kind": "x"})
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    store.add(ClipEntry("a", 10, "ann", labels={"emotion": {"happy": 0.5, "sad": 0.5}}), {"values": values})
    store.refuse("b", "no face")
    again = ClipStore(tmp_path, {"kind": "x"})
    assert again.entries == store.entries and again.refused == {"b": "no face"} and again.known() == {"a", "b"}
    assert (again.read(0, "values") == values).all()
    assert (again.read(0, "values", slice(3, 5)) == values[3:5]).all()
    assert len(again.read(0, "values", slice(8, 15))) == 2 and len(again.read(0, "values", slice(12, 15))) == 0
    assert again.names(0) == {"values"}


def test_a_line_that_a_kill_cut_off_is_forgotten(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, {})
    store.add(ClipEntry("a", 1), {"x": np.zeros(1)})
    with (tmp_path / INDEX).open("a") as file:
        file.write('{"clip_id": "b", "num_fr')
    again = ClipStore(tmp_path, {})
    assert [entry.clip_id for entry in again.entries] == ["a"]
    again.add(ClipEntry("c", 1), {"x": np.zeros(1)})
    assert [entry.clip_id for entry in ClipStore(tmp_path, {}).entries] == ["a", "c"]


def test_a_store_made_in_another_way_is_refused(tmp_path: Path) -> None:
    ClipStore(tmp_path, {"head": "nods", "size": 1}).refuse("a", "")
    with pytest.raises(OptionError, match="prepared with other values of head; set them back"):
        ClipStore(tmp_path, {"head": "all", "size": 1})


@pytest.mark.parametrize(
    ("written", "read"),
    [("Happy", "happy"), ("anger", "angry"), ("bored", "bored"), ("happy:0.5", {"happy": 0.5, "neutral": 0.5})],
)
def test_an_emotion_is_read_in_our_words(written: str, read: str | dict[str, float]) -> None:
    assert labels_of({"emotion": written}) == {"emotion": read}


def test_people_are_not_in_both_splits() -> None:
    entries = [ClipEntry(f"{k}", 1, person=f"p{k % 7}") for k in range(50)]
    training, held_out = split_entries(entries, 0.2, seed=0)
    assert sorted(training + held_out) == list(range(50)) and 10 <= len(held_out) <= 20
    assert not {entries[k].person for k in training} & {entries[k].person for k in held_out}
    curated = [ClipEntry(str(k), 1, split=split) for k, split in enumerate(("train", "val", "test", None))]
    assert split_entries(curated, 0.2, seed=0) == ([0, 3], [1])
    assert split_entries([ClipEntry("only", 1)], 0.5, seed=0) == ([0], [])


def test_people_are_held_out_where_curation_left_none_for_validation() -> None:
    entries = [ClipEntry(str(k), 1, person=f"p{k % 4}", split="test" if k % 4 == 3 else "train") for k in range(12)]
    training, held_out = split_entries(entries, 0.1, seed=0)
    assert len(held_out) == 3 and len({entries[k].person for k in held_out}) == 1
    assert sorted(training + held_out) == [k for k in range(12) if k % 4 != 3]
    assert split_entries(entries, 0.0, seed=0)[1] == []


def test_clips_made_from_others_are_not_held_out_and_follow_their_person() -> None:
    entries = [ClipEntry(f"{k}", 1) for k in range(10)]
    made = [ClipEntry(f"{k}-v0", 1, person=f"{k}", labels={MADE_FROM: f"{k}"}) for k in range(10)]
    training, held_out = split_entries([*entries, *made], 0.3, seed=0)
    assert held_out and max(held_out) < 10
    assert not {k % 10 for k in training} & set(held_out)


def test_validation_takes_turns_over_cells() -> None:
    cells = cells_of(
        [ClipEntry(str(k), 1, labels={"emotion": "happy" if k else "sad"}) for k in range(30)], ["emotion"]
    )
    assert 0 in spread_over_cells(cells, 4, seed=0) and len(spread_over_cells(cells, 4, seed=0)) == 4


def test_cells_name_the_labels_there_are() -> None:
    entries = [ClipEntry("a", 1, labels={"emotion": "happy"})]
    with pytest.raises(OptionError, match="no clip has a label 'ethnicity' to balance by; there are: emotion"):
        cells_of(entries, ["emotion", "ethnicity"])
    assert len(cells_of(entries, [])) == 1
    assert buckets_of(entries) is None
    buckets = buckets_of([ClipEntry("a", 1), ClipEntry("b", 1, shape=(1, 2, 3))])
    assert buckets is not None and buckets.tolist() == [0, 1]


def test_a_folder_is_read_with_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / "clips" / name).write_bytes(b"")
    assert [clip.clip_id for clip in find_clips([tmp_path])] == ["clips_one", "clips_two"]
    (tmp_path / "manifest.csv").write_text("path,emotion,split,portrait\nclips/one.mp4,happy:0.6,held-out,ann.png\n")
    (clip,) = find_clips([tmp_path])
    assert clip.split == "val" and clip.person == "ann.png"
    assert clip.labels["emotion"] == pytest.approx({"happy": 0.6, "neutral": 0.4})
    (tmp_path / "manifest.csv").write_text("path\nclips/three.mp4\n")
    with pytest.raises(InputError, match="names clips/three.mp4, which is not there"):
        find_clips([tmp_path])
    (tmp_path / "manifest.csv").write_text("file\nx\n")
    with pytest.raises(InputError, match="has no column path; it has file"):
        find_clips([tmp_path])


def test_a_folder_is_read_with_the_table_that_curation_reads(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "labels.csv").write_text("path,emotion,identity\none.mp4,sad,ann\n")
    one, two = find_clips([tmp_path])
    assert one.labels["emotion"] == "sad" and one.person == "ann" and two.labels == {}
    (tmp_path / "labels.csv").write_text("path,emotion,start_s\none.mp4,sad,1.5\n")
    with pytest.raises(InputError, match="names parts of videos .* let `avatar curate` cut them"):
        find_clips([tmp_path])


def test_an_export_that_kept_nothing_is_said_to_have(tmp_path: Path) -> None:
    columns = {name: pa.array([], pa.string()) for name in ("clip_id", "shard", "ending")}
    columns |= {name: pa.array([], pa.int64()) for name in ("offset", "size")}
    pq.write_table(pa.table(columns), tmp_path / "index.parquet")
    with pytest.raises(InputError, match="kept none; its report says why"):
        find_clips([tmp_path])


def test_a_shard_is_read_with_its_labels(tmp_path: Path) -> None:
    told = {
        "identity": "ann",
        "split": "train",
        "ethnicity": "x",
        "emotion_probs": [0.25, 0.75],
        "emotion_label_set": "happy|sad",
        "apparent_ethnicity_probs": [0.5, 0.5],
        "apparent_sex_probs": [0.0, 1.0],
        "caption_video": "A woman speaks.",
    }
    with tarfile.open(tmp_path / "000.tar", "w") as shard:
        for name, content in (("abc.mp4", b"film"), ("abc.json", json.dumps(told).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    (clip,) = find_clips([tmp_path])
    assert (clip.clip_id, clip.person, clip.split, clip.caption) == ("abc", "ann", "train", "A woman speaks.")
    assert clip.labels["emotion"] == {"happy": 0.25, "sad": 0.75} and clip.labels["ethnicity"] == "x"
    assert clip.labels["sex"] == {"apparent 1": 1.0}
    with clip.file() as path:
        assert path.read_bytes() == b"film" and path.suffix == ".mp4"


def test_what_curation_keeps_for_itself_is_no_label() -> None:
    values = {"source_id": "a.mp4", "sync_backend": "x-3", "config_hash": "ab", "track_uri": "t.npz", "language": "en"}
    assert labels_of(values) == {"language": "en"}


def test_a_declared_emotion_stands() -> None:
    values = {"emotion": "sad", "label_source": "declared", "emotion_probs": [1.0], "emotion_label_set": "happy"}
    assert labels_of(values)["emotion"] == "sad"


def test_folders_without_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="data.sources names no folder"):
        find_clips([])
    with pytest.raises(InputError, match="is no folder"):
        find_clips([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"holds neither shards \(\*.tar\) nor videos"):
        find_clips([tmp_path])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="two clips are called same"):
        find_clips([tmp_path / "a", tmp_path / "b"])


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(InputError, match="manifest.csv cannot be read as a table: .*; save it as CSV in UTF-8"):
        find_clips([tmp_path])
