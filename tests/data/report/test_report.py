"""The page on a made-up manifest: every figure is what the rows say, and the page needs nothing but itself."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.limits import parse_limits
from avatar.data.manifest import SCHEMA, read_table, table_from_rows, write_table
from avatar.data.report import write_report
from avatar.data.report.figures import Total, apparent, balance, funnel, histograms, stage_times
from avatar.errors import MediaError

LIMITS = parse_limits({"dark": {"column": "brightness_mean", "min": 0.15}, "several_faces": {"column": "n_faces_max", "max": 1},
                       "small_picture": {"column": "short_side_px", "min": 256}})  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """40 clips of 9 s: 30 kept, six dark (two of them with two faces as well), three with two faces, one unreadable."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(40):
        reasons = (
            ["dark"] * (30 <= i < 36) + ["several_faces"] * (i in (34, 35, 36, 37, 38)) + ["error:probe"] * (i == 39)
        )
        brightness = None if i == 39 else 0.08 if "dark" in reasons else rng.uniform(0.3, 0.7)
        made.append({
            "clip_id": f"{i:016x}", "source_id": f"video {i % 7}<b>", "source_uri": "absent.mp4", "start_s": 0.0,
            "end_s": 9.0, "duration_s": 9.0, "brightness_mean": brightness,
            "n_faces_max": 2 if "several_faces" in reasons else 1, "width_px": 640, "height_px": 360 + i,
            "emotion": "happy" if i < 24 else "sad" if i < 29 else None, "language": "en" if i < 35 else "cy",
            "keep": not reasons, "reject_reasons": reasons, "split": "val" if i % 10 == 0 else "train",
            "face_backend": "mediapipe-0.10.21", "config_hash": "abc", "pipeline_version": "1.0",
        })  # fmt: skip
    return made


@pytest.fixture
def folder(tmp_path: Path) -> CurationFolder:
    made = CurationFolder(tmp_path)
    write_table(made.manifest, table_from_rows(rows(), SCHEMA))
    tables = {
        limit.reason: {"column": limit.column} | ({"min": limit.min} if limit.min else {"max": limit.max})
        for limit in LIMITS
    }
    made.settings.write_text(json.dumps(dict(CurationConfig.load().values) | {"limits": tables}))
    times = pa.table({"clip_id": ["a", "b"], "error": pa.array([None, "broke"]), "cpu_s": [1.5, 0.5]})
    write_table(tmp_path / "sidecars" / "faces-1" / "x.parquet", times)
    return made


class Page(HTMLParser):
    """What a page refers to, and how its elements nest."""

    VOID = frozenset("meta link img br rect line".split())

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.headings: list[int] = []
        self.unlabelled: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [str(found[name]) for name in ("href", "src") if name in found]
        self.ids |= {str(found["id"])} if "id" in found else set()
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if (tag == "img" and not found.get("alt")) or (tag == "svg" and not found.get("aria-label")):
            self.unlabelled.append(tag)
        if tag == "th" and "scope" not in found:
            self.unlabelled.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_funnel_counts_each_clip_once_and_ends_with_what_is_kept() -> None:
    steps = {step.reason: step for step in funnel(rows(), LIMITS)}
    assert list(steps) == ["error:probe", "dark", "several_faces", "small_picture"]
    assert [step.rejected.clips for step in steps.values()] == [1, 6, 3, 0]
    assert steps["several_faces"].in_all == 5
    assert steps["small_picture"].left == Total(30, 30 * 9 / 3600)


def test_a_histogram_holds_every_measured_clip_and_its_thresholds() -> None:
    found = {one.column: one for one in histograms(rows(), LIMITS)}
    assert set(found) == {"brightness_mean", "n_faces_max", "short_side_px"}
    brightness = found["brightness_mean"]
    assert (sum(brightness.kept), sum(brightness.rejected), brightness.missing) == (30, 9, 1)
    assert brightness.thresholds == (("dark: least 0.15", 0.15),)
    assert brightness.edges[0] < 0.08 and brightness.edges[-1] > 0.7
    assert found["short_side_px"].edges[0] < 256  # the threshold is on the axis though all values are above it


def test_the_limits_of_a_backend_that_did_not_run_are_not_drawn() -> None:
    listed = [row | {"sync_backend": "ours", "sync_conf": i / 40} for i, row in enumerate(rows())]
    tables = {
        name: {"column": "sync_conf", "min": least, "when": {"sync_backend": name}}
        for name, least in (("ours", 0.3), ("syncnet", 3.0))
    }
    [one] = histograms(listed, parse_limits(tables))
    assert one.thresholds == (("ours: least 0.3", 0.3),)


def test_long_tails_are_drawn_on_a_logarithmic_axis_with_the_threshold_in_place() -> None:
    listed = rows()
    for i, row in enumerate(listed):
        row["face_lap_var_256"] = 10.0 ** (i % 5)
    [one] = histograms(listed, parse_limits({"blurred": {"column": "face_lap_var_256", "min": 10.0}}))
    assert one.is_log and sum(one.kept) + sum(one.rejected) == 40
    assert 0.2 < one.place(10.0) < 0.3 and one.place(one.edges[0]) == 0.0


def test_few_clips_with_a_personal_label_are_not_shown_and_languages_are() -> None:
    shares = {one.value: one for one in balance(rows(), "emotion")}
    assert shares["happy"].kept == Total(24, 24 * 9 / 3600)
    assert shares["sad"].all is None and shares["sad"].kept is None
    assert shares["not declared"].all == Total(11, 11 * 9 / 3600)
    assert {one.value: one.all and one.all.clips for one in balance(rows(), "language")} == {"en": 35, "cy": 5}


def test_a_models_opinion_is_a_mean_over_enough_clips() -> None:
    listed = rows()
    for row in listed[:12]:
        row["apparent_sex_probs"] = [0.25, 0.75]
    assert apparent(listed, "apparent_sex_probs") == (12, (0.25, 0.75))
    assert apparent(listed[3:], "apparent_sex_probs") is None


def test_the_page_is_whole_refers_to_nothing_outside_and_says_the_figures(folder: CurationFolder) -> None:
    path = write_report(folder.root)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.unlabelled == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert page.headings[0] == 1 and all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert "<script" not in text and "http" not in text
    assert "30 (75 %)" in text and "4.5 min kept of 6.0 min" in text
    assert "video 0&lt;b&gt;" in text and "<b>" not in text
    assert "brightness_mean 0.08 (min 0.15)" in text
    assert "under 10" in text
    assert "3,600" in text  # clips an hour on one core: two rows in two seconds
    assert list(folder.root.glob(".report*")) == []


def test_a_page_has_the_middle_frame_of_a_clip(folder: CurationFolder) -> None:
    video = folder.root / "a.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    listed = rows()
    listed[0] |= {"source_uri": str(video), "end_s": 1.0}
    write_table(folder.manifest, table_from_rows(listed, SCHEMA))
    assert write_report(folder.root).read_text(encoding="utf-8").count("data:image/jpeg") == 1


def test_stage_times_are_read_from_the_sidecars(folder: CurationFolder) -> None:
    [time] = stage_times(folder.root / "sidecars")
    assert (time.stage, time.rows, time.failed, time.cpu_s, time.per_hour) == ("faces", 2, 1, 2.0, 3600.0)


def test_of_a_stage_with_two_versions_the_last_counts(folder: CurationFolder) -> None:
    older, newer = folder.root / "sidecars" / "faces-1", folder.root / "sidecars" / "faces-2"
    shutil.copytree(older, newer)
    [path] = newer.glob("*.parquet")
    write_table(path, read_table(path).slice(0, 1))
    later = max(file.stat().st_mtime for file in older.glob("*.parquet")) + 10
    os.utime(path, (later, later))
    [time] = stage_times(folder.root / "sidecars")
    assert (time.stage, time.rows) == ("faces", 1)


def test_an_empty_manifest_makes_a_page(folder: CurationFolder) -> None:
    write_table(folder.manifest, SCHEMA.empty_table())
    assert "0.0 min kept of 0.0 min" in write_report(folder.root).read_text(encoding="utf-8")


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="avatar curate"):
        write_report(tmp_path)
