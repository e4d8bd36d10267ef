"""Limits reject alike row by row and column by column; the configuration is checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.decide import reject_reasons
from avatar.data.curation.limits import Limit, first_reason, parse_limits
from avatar.errors import OptionError

FLAGS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        ("x", pa.float64()), ("b", pa.bool_()), ("s", pa.string()), ("flags", FLAGS),
        ("width_px", pa.int32()), ("height_px", pa.int32()),
    ]
)  # fmt: skip
LIMITS = (
    Limit("low", "x", min=0.2),
    Limit("high", "x", max=0.8),
    Limit("far", "x", max_abs=0.5),
    Limit("other", "x", min=0.9, when={"s": "strict"}),
    Limit("copy", "b", none_of=(False,)),
    Limit("mark", "flags", none_of=("yes",), key="watermark"),
    Limit("small", "short_side_px", min=256),
)


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    return [
        {
            "x": pick(None, *rng.uniform(-1, 1, 4).tolist()),
            "b": pick(None, True, False),
            "s": pick(None, "strict", "mild"),
            "flags": pick(None, [], [("watermark", "yes")], [("watermark", "no"), ("slides", "yes")]),
            "width_px": pick(None, 100, 300),
            "height_px": pick(None, 200, 400),
        }
        for _ in range(400)
    ]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.reason)
def test_rows_and_columns_agree(limit: Limit) -> None:
    listed = rows()
    mask = limit.mask(pa.Table.from_pylist(listed, schema=SCHEMA))
    assert mask.tolist() == [limit.rejects(row) for row in listed]
    assert 0 < mask.sum() < len(mask)


def test_what_was_not_measured_is_rejected_only_where_it_is_required() -> None:
    table = pa.Table.from_pylist([{"x": None}, {"x": 0.5}], schema=pa.schema([("x", pa.float64())]))
    assert Limit("low", "x", min=0.2).mask(table).tolist() == [False, False]
    assert Limit("low", "x", min=0.2, required=True).mask(table).tolist() == [True, False]
    assert Limit("gone", "y", required=True).mask(table).tolist() == [True, True]
    assert Limit("gone", "y", min=1).mask(table).tolist() == [False, False]


def test_the_ends_of_a_range_are_accepted() -> None:
    assert first_reason([Limit("low", "x", min=0.2), Limit("high", "x", max=0.8)], {"x": 0.2}) is None
    assert first_reason([Limit("high", "x", max=0.8)], {"x": 0.81}) == "high"


def test_a_limit_that_rejects_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="rejects nothing"):
        parse_limits({"odd": {"column": "x"}})


def test_the_defaults_are_a_configuration() -> None:
    config = CurationConfig.load()
    assert {"dark", "several_faces", "duplicate"} <= {limit.reason for limit in config.limits}


def test_a_layer_changes_what_it_names_and_nothing_else() -> None:
    config = CurationConfig.load({"limits": {"dark": {"min": 0.3}, "bright": False}}, {"lazy": False})
    dark = next(limit for limit in config.limits if limit.reason == "dark")
    assert (dark.column, dark.min) == ("brightness_mean", 0.3)
    assert "bright" not in {limit.reason for limit in config.limits}
    assert config["lazy"] is False and config.hash != CurationConfig.load().hash


def test_a_file_is_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "scorers = ['picture']\n[scorer.picture]\nsomething = 3\n[limits.mine]\ncolumn = 'snr_db'\nmin = 12\n"
    )
    config = CurationConfig.load(path)
    assert config["scorers"] == ["picture"] and config.scorer_options("picture") == {"something": 3}
    assert any(limit.reason == "mine" for limit in config.limits)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"scorer_s": []}, "has no scorer_s; did you mean scorers. Accepted here: scorers"),
        ({"shots": {"treshold": 2}}, "has no shots.treshold"),
        ({"shot": {}}, "has no shot; did you mean shots\\? Accepted here: scorers"),
        ({"lazy": 1}, "lazy is 1; it is true or false"),
        ({"scorer": ["picture"]}, "scorer is .'picture'.; it is a table"),
        ({"shots": {"threshold": -1}}, "shots.threshold is -1; accepted: 0 or more"),
        ({"scorers": [1]}, "it is a list of names"),
        ({"scorer": {"picture": 1}}, "options of a scorer are a table"),
        ({"shots": {"min_shot_frames": 1.5}}, "shots.min_shot_frames is 1.5; it is a whole number, such as 8"),
        ({"segments": {"max_s": 0}}, "segments.max_s is 0; accepted: 1 or more"),
        ({"export": {"crf": 99}}, "export.crf is 99; accepted: 0 to 51"),
        ({"export": {"media": "encod"}}, "accepted: encode, reference, none"),
        ({"split": {"val": 0.6, "test": 0.6}}, "more than 1 together"),
        ({"limits": {"dark": {"min": "a"}}}, "limit 'dark' has min = 'a'; it is a number"),
        ({"limits": {"dark": {"none_of": "a"}}}, "limit 'dark' has none_of = 'a'; it is a list"),
        ({"limits": {"dark": {"minimum": 1}}}, "limit 'dark' has minimum; accepted: column, min, max"),
        ({"limits": {"dark": True}}, "limit 'dark' is True; it is false, or a table"),
        ({"limits": {"dark": {"when": 1}}}, "limit 'dark' has when = 1; it is a table"),
        ({"limits": {"dark": {"max": float("nan")}}}, "limit 'dark' has max = nan; it is a number"),
        ({"limits": {"dark": {"min": 2, "max": 1}}}, "min = 2 and max = 1, which nothing can meet"),
        ({"limits": {"new": {"min": 1}}}, "A new one is a table with column"),
        ({"limits": {"drak": {"min": 1}}}, r"'drak' is none of the defaults: did you mean \[limits.dark\]"),
    ],
)
def test_a_wrong_key_is_named(layer: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        CurationConfig.load(layer)


def test_broken_toml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = ")
    with pytest.raises(OptionError, match="cannot be read"):
        CurationConfig.load(tmp_path / "c.toml")


def test_a_limit_is_no_reason_where_another_one_makes_it_moot() -> None:
    """A picture nobody can see has no faces to be found: that is not what is wrong with it."""
    table = pa.Table.from_pylist(
        [
            {"light": 0.01, "faces": 0, "source_error": None, "_failed": [], "_done": []},
            {"light": 0.5, "faces": 0, "source_error": None, "_failed": [], "_done": []},
        ]
    )
    listed = {"dark": {"column": "light", "min": 0.1}, "no_face": {"column": "faces", "min": 1, "unless": ["dark"]}}
    assert reject_reasons(table, parse_limits(listed)) == [["dark"], ["no_face"]]
    assert reject_reasons(table, parse_limits(listed | {"dark": False})) == [["no_face"], ["no_face"]]
    with pytest.raises(OptionError, match="unless dusk, which is no limit; there are no_face"):
        parse_limits({"no_face": {"column": "faces", "min": 1, "unless": ["dusk"]}})


def test_every_default_limit_names_limits_that_are_there() -> None:
    limits = {limit.reason: limit for limit in CurationConfig.load().limits}
    assert limits["no_face"].unless and limits["sync_offset"].unless
    assert all(set(limit.unless) <= set(limits) for limit in limits.values())
