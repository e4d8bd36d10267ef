"""Nothing in an exported folder tells the systems apart: a test that tries, on clips that differ as much as clips can."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avatar.audio.loudness import integrated_loudness
from avatar.errors import OptionError, OutputError
from avatar.media import read_video, read_waveform
from avatar.study.blinding import tell_tales
from avatar.study.clips import SHIFT_S
from avatar.study.export import Exported, export_study
from avatar.study.formats import Key, read_key, read_study
from avatar.study.spec import StudySpec
from tests.study.studies import SYSTEMS, write_systems


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, Exported, Key]:
    where = tmp_path_factory.mktemp("study")
    spec = write_systems(where)
    exported = export_study(spec, where / "out", where / "key.json")
    return spec, exported, read_key(exported.key)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def by_item(exported: Exported, key: Key) -> dict[str, list[tuple[str, Path]]]:
    found = defaultdict(list)
    for clip, what in key.clips.items():
        found[what.item].append((what.system, exported.folder / clip))
    return found


def test_the_sources_are_easy_to_tell_apart(made: tuple[StudySpec, Exported, Key]) -> None:
    spec, _, _ = made
    sizes = {s.name: (s.folder / "item0.mp4").stat().st_size for s in spec.systems if s.folder is not None}
    assert sizes["noisy"] > 2 * sizes["still"]


def test_names_are_opaque_and_in_no_order(made: tuple[StudySpec, Exported, Key]) -> None:
    _, exported, key = made
    assert all(re.fullmatch(r"media/[0-9a-f]{16}\.mp4", clip) for clip in key.clips)
    assert {path.name for path in exported.folder.iterdir()} == {"index.html", "study.json", "media"}
    for system, item in {(what.system, what.item) for what in key.clips.values()}:
        for guess in (system, item, f"{system}{item}", f"{system}/{item}", f"7|{system}|{item}", f"7{system}{item}"):
            for method in (hashlib.sha256, hashlib.sha1, hashlib.md5):
                assert f"media/{method(guess.encode()).hexdigest()[:16]}.mp4" not in key.clips
    order = [what.system for _, what in sorted(key.clips.items())]
    assert len(set(order[: len(order) // 2])) == len(SYSTEMS)


def test_sizes_and_every_frame_s_size_are_the_same(made: tuple[StudySpec, Exported, Key]) -> None:
    _, exported, key = made
    for clips in by_item(exported, key).values():
        assert len({system for system, _ in clips}) == len(SYSTEMS)
        assert len({path.stat().st_size for _, path in clips}) == 1
        frames = set()
        for _, path in clips:
            with av.open(str(path)) as container:
                frames.add(tuple(packet.size for packet in container.demux(video=0)))
        assert len(frames) == 1


def test_streams_tags_times_and_encoder_s_words_are_the_same(made: tuple[StudySpec, Exported, Key]) -> None:
    _, exported, key = made
    assert tell_tales(exported.folder, key) == []
    assert {path.stat().st_mtime for path in exported.folder.rglob("*")} == {946_684_800}
    words = set()
    for clip in key.clips:
        data = (exported.folder / clip).read_bytes()
        assert b"Lavf" not in data and b"Lavc" not in data.split(b"mdat")[0]
        words.add(re.search(rb"x264 - core[^\0]*", data)[0].rstrip(b"\x80"))  # type: ignore[index]
    assert len(words) == 1


def test_copies_of_one_clip_have_no_bytes_in_common_that_a_checksum_finds(
    made: tuple[StudySpec, Exported, Key],
) -> None:
    _, exported, _ = made
    checksums = Counter(digest(exported.folder).values())
    assert max(checksums.values()) == 1


def test_the_page_and_study_json_name_nothing(made: tuple[StudySpec, Exported, Key]) -> None:
    spec, exported, key = made
    study = json.loads((exported.folder / "study.json").read_text())
    trials = json.dumps([study["practice"], study["slots"], study["id"], study["version"]])
    page = (exported.folder / "index.html").read_text()
    for text in (trials, page):
        for secret in (key.salt, str(spec.systems[0].folder), *key.items, *(f"{name}/" for name in SYSTEMS)):
            assert secret not in text
    for word in (*SYSTEMS, "trap", "repeat", "muted", "shifted", "kind"):
        assert word not in trials
    assert set(study["slots"][0][0]) == {"id", "clip", "portrait", "duration_s"}
    assert not any(path.suffix == ".json" and path.name != "study.json" for path in exported.folder.rglob("*"))


def test_the_key_tells_it_all_and_belongs_to_the_folder(made: tuple[StudySpec, Exported, Key]) -> None:
    spec, exported, key = made
    study = read_study(exported.folder)
    assert (key.study_id, key.study_version) == (study.id, study.version)
    trials = {trial.id: trial.clip for slot in (study.practice, *study.slots) for trial in slot}
    assert trials == key.trials and set(trials.values()) == set(key.clips)
    kinds = Counter(what.kind for what in key.clips.values())
    assert set(kinds) == {"generated", "real", "practice", "repeat", "trap"}
    assert all(key.clips[what.repeats].item == what.item for what in key.clips.values() if what.repeats)
    assert exported.key.stat().st_mode & 0o077 == 0


def test_the_picture_of_a_clip_is_the_system_s_own(made: tuple[StudySpec, Exported, Key]) -> None:
    spec, exported, key = made
    folders = {system.name: system.folder for system in spec.systems}
    for clip, what in list(key.clips.items())[:8]:
        shown = np.stack(list(read_video(exported.folder / clip))).astype(float)
        errors = {}
        for name, folder in folders.items():
            source = np.stack(list(read_video(folder / f"{what.item}.mp4"))).astype(float)  # type: ignore[operator]
            errors[name] = float(np.abs(shown - source).mean())
        assert min(errors, key=errors.__getitem__) == what.system


def test_all_clips_are_equally_loud_and_traps_are_traps(made: tuple[StudySpec, Exported, Key]) -> None:
    _, exported, key = made
    for clip, what in key.clips.items():
        sound = read_waveform(exported.folder / clip, 48_000)
        if what.trap == "muted":
            assert np.abs(sound.samples).max() < 1e-3
        elif what.trap == "shifted":
            assert np.abs(sound.samples[: int((SHIFT_S - 0.02) * 48_000)]).max() < 0.02
            assert np.abs(sound.samples[int((SHIFT_S + 0.02) * 48_000) :]).max() > 0.02
        else:
            assert integrated_loudness(sound) == pytest.approx(-23, abs=0.3)


def test_the_same_clips_and_seed_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    spec = write_systems(tmp_path, items=3)
    spec = replace(spec, clips_per_rater=3, raters=2, practice=0, repeats=0, traps=0)
    one, same = (export_study(spec, tmp_path / name, tmp_path / f"{name}.json") for name in "ab")
    other = export_study(replace(spec, seed=8), tmp_path / "c", tmp_path / "c.json")
    assert digest(one.folder) == digest(same.folder)
    assert one.key.read_bytes() == same.key.read_bytes()
    assert not set(digest(one.folder)) & {name for name in digest(other.folder) if name.startswith("media")}


def test_what_gives_systems_away_is_found(made: tuple[StudySpec, Exported, Key], tmp_path: Path) -> None:
    _, exported, key = made
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    clip = folder / next(iter(key.clips))
    clip.write_bytes(clip.read_bytes() + bytes(100))
    (folder / "notes.txt").write_text("ours is first")
    found = " ".join(tell_tales(folder, key))
    assert "have sizes" in found and "say when they were made" in found and "notes.txt does not belong" in found


def test_missing_clips_are_named_all_at_once(tmp_path: Path) -> None:
    spec = write_systems(tmp_path, items=3)
    (tmp_path / "noisy" / "item1.mp4").unlink()
    (tmp_path / "still" / "item0.mp4").unlink()
    with pytest.raises(OptionError, match=r"system still has no clip of item0 .*system noisy has no clip of item1"):
        export_study(spec, tmp_path / "out", tmp_path / "key.json")
    assert not (tmp_path / "out").exists() and not (tmp_path / "key.json").exists()


def test_the_key_may_not_lie_in_the_folder(tmp_path: Path) -> None:
    spec = write_systems(tmp_path, items=2)
    (tmp_path / "out").mkdir()
    with pytest.raises(OptionError, match="may not lie in the folder"):
        export_study(spec, tmp_path / "out", tmp_path / "out" / "key.json", overwrite=True)


def test_a_folder_that_is_no_study_is_never_replaced(tmp_path: Path) -> None:
    spec = write_systems(tmp_path, items=2)
    with pytest.raises(OutputError, match="is not a study's folder"):
        export_study(spec, tmp_path / "still", tmp_path / "key.json", overwrite=True)
