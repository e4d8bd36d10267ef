"""The whole way: what is kept and why, decoded once, nothing done twice, nothing deleted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from avatar.data import clip_media, curate, rethreshold
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.explain import explain
from avatar.data.curation.split import with_splits
from avatar.data.manifest import SCHEMA, read_manifest, with_schema
from avatar.errors import MediaError, OptionError, OutputError
from avatar.media import write_video
from avatar.types import Waveform
from tests.data.curation.conftest import Inline

PORTRAIT = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
NO_LIMITS = {"too_short": {"min": 1.0}, "small_picture": False, "no_sound": False}


def settings(scorers: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "scorers": scorers,
        "export": {"media": "none"},
        **changes,
        "limits": {**NO_LIMITS, **changes.get("limits", {})},
    }


def by_source(out: Path) -> dict[str, dict[str, Any]]:
    return {row["source_id"]: row for row in read_manifest(out).to_pylist()}


@pytest.fixture
def folder(make_video: Callable[..., Path]) -> Path:
    make_video("a.mp4", seed=1)
    make_video("dark.mp4", seed=2, gain=0.1)
    path = make_video("cut.mp4", seed=3)
    path.write_bytes(path.read_bytes()[:-3000])
    return path.parent


def test_every_clip_is_a_row_with_its_reasons(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Brightness")), inline)
    rows = by_source(tmp_path / "out")
    assert rows["a.mp4"]["keep"] and rows["a.mp4"]["reject_reasons"] == []
    assert rows["dark.mp4"]["reject_reasons"] == ["dark"]
    assert (
        rows["cut.mp4"]["reject_reasons"] == ["error:probe"]
        and "truncated" in dict(rows["cut.mp4"]["stage_errors"])["probe"]
    )
    assert rows["a.mp4"]["brightness_mean"] == pytest.approx(0.45, abs=0.15)
    assert rows["a.mp4"]["lap_var_512"] is None  # nobody measured it


def test_a_rejected_clip_is_not_looked_at_further_unless_limits_are_studied(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    names = scorers.names("Brightness", "Blur")
    curate(folder, tmp_path / "out", settings(names), inline)
    assert len(scorers.log("brightness")) == 2 and len(scorers.log("blur")) == 1
    curate(folder, tmp_path / "out", settings(names, lazy=False), inline)
    assert len(scorers.log("brightness")) == 2 and len(scorers.log("blur")) == 2  # only what was missing


def test_a_clip_is_decoded_once_however_many_scorers_look(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Brightness", "Blur")), inline)
    assert all(line.endswith(" 1") for which in ("brightness", "blur") for line in scorers.log(which))


def noting(read: Callable[..., Any], opened: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **options: Any) -> Any:
        opened.append(read.__name__)
        return read(*args, **options)

    return noted


def test_every_default_scorer_looks_at_one_decoding(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mediapipe")
    portrait = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    frames = np.stack([np.roll(portrait, k, axis=1) for k in range(30)])
    sound = Waveform(np.random.default_rng(0).normal(0, 0.1, 19_200).astype(np.float32))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", iter([frames]), fps=25, speech=sound, preset="ultrafast")
    opened: list[str] = []
    for name in ("read_video", "read_video_frames", "read_waveform"):
        monkeypatch.setattr(clip_media, name, noting(getattr(clip_media, name), opened))
    scorers = CurationConfig.load()["scorers"]
    curate(tmp_path / "videos", tmp_path / "out", settings(scorers, lazy=False), inline, report=False)
    row = by_source(tmp_path / "out")["a.mp4"]
    assert row["stage_errors"] is None and len(scorers) > 6
    measured = ("sharpness_512", "speech_frac", "yaw_deg_p95", "face_sharpness_256", "sync_conf", "aes_score", "phash8")
    assert [name for name in measured if row[name] is None] == []
    assert sorted(opened) == ["read_video", "read_waveform"]


def test_a_second_run_does_nothing_and_gives_the_same_bytes(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    options = settings(scorers.names("Brightness", "Blur"))
    first = curate(folder, tmp_path / "out", options, inline).read_bytes()
    rows = inline.rows
    assert curate(folder, tmp_path / "out", options, inline).read_bytes() == first
    assert inline.rows == rows


def test_a_new_scorer_rewrites_no_other_s_files(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Brightness")), inline)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "sidecars").rglob("*.parquet")}
    curate(folder, tmp_path / "out", settings(scorers.names("Brightness", "Blur")), inline)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert by_source(tmp_path / "out")["a.mp4"]["lap_var_512"] is not None


def test_other_limits_need_no_decoding_and_what_was_never_measured_is_said(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    options = settings(scorers.names("Brightness", "Blur"))
    curate(folder, tmp_path / "out", options, inline)
    rethreshold(tmp_path / "out", {"limits": {"dark": {"min": 0.001}, "bright": {"max": 0.1}}})
    rows = by_source(tmp_path / "out")
    assert rows["a.mp4"]["reject_reasons"] == ["bright"]
    assert rows["dark.mp4"]["reject_reasons"][0].startswith("unmeasured:")
    assert len(scorers.log("brightness")) == 2
    options["limits"] = {**options["limits"], "dark": {"min": 0.001}, "blurred_picture": False}
    curate(folder, tmp_path / "out", options, inline)  # measures what is missing
    assert by_source(tmp_path / "out")["dark.mp4"]["keep"]


def test_what_a_scorer_stumbles_over_is_that_clip_s_error(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Fails")), inline)
    row = by_source(tmp_path / "out")["a.mp4"]
    (name,) = scorers.names("Fails")
    assert row["reject_reasons"] == [f"error:{name}"] and dict(row["stage_errors"]) == {name: "RuntimeError: no luck"}


def test_what_failed_is_tried_again_where_that_is_asked_for(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    options = settings(scorers.names("Brightness", "Fails"), lazy=False)
    curate(folder, tmp_path / "out", options, inline)
    scorers.give("luck")
    curate(folder, tmp_path / "out", options, inline)
    assert not by_source(tmp_path / "out")["a.mp4"]["keep"]  # what is written down stays
    curate(folder, tmp_path / "out", options, inline, retry_failed=True)
    row = by_source(tmp_path / "out")["a.mp4"]
    assert row["keep"] and row["lap_var_512"] is not None and row["stage_errors"] is None
    assert by_source(tmp_path / "out")["cut.mp4"]["reject_reasons"] == ["error:probe"]
    assert len(scorers.log("brightness")) == 2  # nobody measures again what went well


def test_nan_is_an_error_and_never_a_value(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Nan")), inline)
    row = by_source(tmp_path / "out")["a.mp4"]
    assert row["lap_var_512"] is None and "what was not measured is None" in dict(row["stage_errors"]).popitem()[1]


def test_a_value_of_another_kind_is_an_error_and_stops_no_run(
    folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace
) -> None:
    curate(folder, tmp_path / "out", settings(scorers.names("Words")), inline)
    errors = dict(by_source(tmp_path / "out")["a.mp4"]["stage_errors"])
    assert "gave 'sharp' for lap_var_512, which is double" in errors.popitem()[1]


def test_explain_tells_one_clip_s_way(folder: Path, tmp_path: Path, inline: Inline, scorers: SimpleNamespace) -> None:
    options = settings(scorers.names("Brightness", "Blur"), limits={"dark": {"min": 0.15}})
    curate(folder, tmp_path / "out", options, inline)
    text = explain(tmp_path / "out", "dark.mp4")
    assert "FAILS dark: brightness_mean 0.0" in text and "(min 0.15)" in text
    assert "not looked at, it was rejected before" in text and text.endswith("rejected: dark")
    assert "not readable: probe:" in explain(tmp_path / "out", "cut.mp4")
    with pytest.raises(OptionError, match="there is no clip 'nobody'; name a clip_id or a source_id"):
        explain(tmp_path / "out", "nobody")
    with pytest.raises(OptionError, match=r"no clip 'drak.mp4' \(did you mean dark.mp4, a.mp4\?\)"):
        explain(tmp_path / "out", "drak.mp4")
    with pytest.raises(MediaError, match="nothing is no output of `avatar curate`.*run it first"):
        explain(tmp_path / "nothing", "a.mp4")


def test_copies_are_rejected_but_for_the_best_and_never_split_apart(
    folder: Path, tmp_path: Path, inline: Inline
) -> None:
    (folder / "copy.mp4").write_bytes((folder / "a.mp4").read_bytes())
    curate(folder, tmp_path / "out", settings(["fingerprints"]), inline)
    rows = by_source(tmp_path / "out")
    copies = [rows["a.mp4"], rows["copy.mp4"]]
    assert sorted(row["keep"] for row in copies) == [False, True]
    assert [row["reject_reasons"] for row in copies if not row["keep"]] == [["duplicate"]]
    assert copies[0]["split"] == copies[1]["split"] and copies[0]["clip_id"] != copies[1]["clip_id"]


def test_the_report_is_written_from_python_too(folder: Path, tmp_path: Path, inline: Inline) -> None:
    curate(folder, tmp_path / "out", settings([]), inline)
    page = tmp_path / "out" / "report.html"
    assert "of 3 clips kept" in page.read_text(encoding="utf-8")
    page.unlink()
    rethreshold(tmp_path / "out", {"limits": {"too_short": {"min": 100.0}}}, report=False)
    assert not page.exists()
    rethreshold(tmp_path / "out")
    assert "0 of 3 clips kept" in page.read_text(encoding="utf-8")


def test_a_second_run_at_the_same_time_is_kept_out(folder: Path, tmp_path: Path, inline: Inline) -> None:
    from avatar.data.curation.folder import CurationFolder

    with CurationFolder(tmp_path / "out").locked(), pytest.raises(OutputError, match="another run is at work"):
        curate(folder, tmp_path / "out", settings([]), inline)


def test_a_folder_without_videos_is_named(tmp_path: Path, inline: Inline) -> None:
    with pytest.raises(MediaError, match="there is no folder"):
        curate(tmp_path / "nothing", tmp_path / "out", settings([]), inline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="holds no video"):
        curate(tmp_path / "empty", tmp_path / "out", settings([]), inline)


def test_one_file_that_is_no_video_is_named(tmp_path: Path, inline: Inline) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(MediaError, match="words.mp4"):
        curate(tmp_path / "words.mp4", tmp_path / "out", settings([]), inline)


def test_an_output_that_is_a_file_is_named(folder: Path, tmp_path: Path, inline: Inline) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out is not a folder; name another"):
        curate(folder, tmp_path / "out", settings([]), inline)


def test_somebody_else_s_folder_is_refused_and_nothing_in_it_is_touched(
    folder: Path, tmp_path: Path, inline: Inline
) -> None:
    for name in ("work/notes.txt", "shards/mine.tar", "other/.draft.part"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_text("precious")
    with pytest.raises(OutputError, match="mine holds work, shards, and not from `avatar curate`.*name another folder"):
        curate(folder, tmp_path / "mine", settings([]), inline)
    assert sorted(path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()) == [
        ".draft.part", "mine.tar", "notes.txt"
    ]  # fmt: skip
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.log").touch()  # what is not in the way may stay
    (tmp_path / "other" / ".draft.part").touch()
    curate(folder, tmp_path / "other", settings([]), inline, report=False)
    assert (tmp_path / "other" / "run.log").exists() and (tmp_path / "other" / ".draft.part").exists()


def test_results_may_lie_in_the_source_and_the_source_not_in_the_results(folder: Path, inline: Inline) -> None:
    options = settings([], export={"media": "encode", "shard_clips": 1})
    curate(folder, folder / "out", options, inline, report=False)
    assert len(by_source(folder / "out")) == 3
    curate(folder, folder / "out", options, inline, report=False)
    assert len(by_source(folder / "out")) == 3
    for out in (folder, folder.parent):
        with pytest.raises(OptionError, match="lie in the output folder.*name another"):
            curate(folder, out, options, inline)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_and_links_that_lead_nowhere_are_errors_of_their_own(
    folder: Path, tmp_path: Path, inline: Inline
) -> None:
    for name in (b"caf\xe9.mp4", b"caf\xe8.mp4"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes((folder / "a.mp4").read_bytes())
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    curate(folder, tmp_path / "out", settings([]), inline)
    rows = by_source(tmp_path / "out")
    assert "there is no file" in dict(rows["gone.mp4"]["stage_errors"])["probe"]
    assert len(rows) == 6 and rows["a.mp4"]["keep"]
    assert "is not UTF-8; rename the file" in dict(rows["caf\\xe9.mp4"]["stage_errors"])["probe"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limits": {"mine": {"column": "language", "min": 1}}}, "asks for min or max of language, which is string"),
        ({"limits": {"mine": {"column": "snr_db", "none_of": ["a"]}}}, r"none_of = \['a'\]; values of snr_db are"),
        ({"limits": {"mine": {"column": "mllm_flags", "none_of": ["a"]}}}, "is a map; name one of its keys"),
        ({"limits": {"mine": {"column": "snr_db", "key": "a", "min": 1}}}, "is no map; it has no keys"),
        ({"limits": {"mine": {"column": "snr_db", "min": 1, "when": {"language": 3}}}}, "is for language = 3; its"),
        (
            {"scorer": {"fingerprints": {"loud": True}}},
            r"cannot be made with .*\[scorer.fingerprints\] takes no options",
        ),
        ({"limits": {"mine": {"column": "snr_bd", "min": 1}}}, "limit 'mine' reads snr_bd, .* did you mean snr_db"),
        ({"scorer": {"pictures": {}}}, "options for a scorer 'pictures'; accepted: .*picture"),
        ({"late_scorers": ["fingerprints"]}, "name fingerprints more than once"),
    ],
)
def test_what_would_do_nothing_is_refused(
    folder: Path, tmp_path: Path, inline: Inline, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        curate(folder, tmp_path / "out", settings(["fingerprints"], **changes), inline)
    assert not (tmp_path / "out").exists()


def test_rethreshold_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="run it first"):
        rethreshold(tmp_path)


def people(count: int) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {
            "clip_id": f"{k:016x}",
            "source_id": f"s{rng.integers(count // 3)}",
            "source_sha256": None,
            "identity": f"p{rng.integers(count // 5)}" if rng.random() < 0.3 else None,
            "dup_group": f"g{rng.integers(count // 4)}" if rng.random() < 0.1 else None,
        }
        for k in range(count)
    ]
    schema = pa.schema([SCHEMA.field(name) for name in rows[0]])
    return with_schema(pa.Table.from_pylist(rows, schema=schema))


def test_no_person_source_or_copy_is_in_two_splits() -> None:
    table = with_splits(people(600), val=0.2, test=0.2, seed=1)
    for column in ("source_id", "identity", "dup_group"):
        splits: dict[str, set[str]] = {}
        for name, split in zip(table.column(column).to_pylist(), table.column("split").to_pylist(), strict=True):
            if name is not None:
                splits.setdefault(name, set()).add(split)
        assert all(len(found) == 1 for found in splits.values())


def test_splits_have_about_their_shares_and_stay_when_clips_are_added() -> None:
    rows = [
        {
            "clip_id": f"{k:016x}",
            "source_id": f"s{k}",
            "source_sha256": f"{k:064x}",
            "identity": None,
            "dup_group": None,
        }
        for k in range(2000)
    ]
    table = with_schema(pa.Table.from_pylist(rows, schema=pa.schema([SCHEMA.field(name) for name in rows[0]])))
    splits = with_splits(table, 0.1, 0.1, 0).column("split").to_pylist()
    assert splits.count("val") == pytest.approx(200, abs=50) and splits.count("test") == pytest.approx(200, abs=50)
    assert with_splits(table.slice(0, 700), 0.1, 0.1, 0).column("split").to_pylist() == splits[:700]
