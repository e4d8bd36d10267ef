"""Weights for non-commercial use only are refused, whichever scorer names them, unless the configuration accepts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.scoring import stages_of
from avatar.data.scorer import create_scorer
from avatar.data.scorers.model_card import UNKNOWN, card_license, forbids_business, named_weights
from avatar.errors import OptionError


def _model(folder: Path, card: str | None) -> str:
    folder.mkdir()
    if card is not None:
        (folder / "README.md").write_text(card)
    return str(folder)


def _options(name: str, model: str) -> dict[str, Any]:
    return {
        "nima": {"model": model},
        "laion": {"head": "head.pth", "clip": model},
        "embedding": {"model": model},
        "labels": {"models": {"emotion": model}},
        "captions": {"model": model},
        "syncnet": {"weights": "syncnet_v2.model"},
    }[name]


@pytest.mark.parametrize("name", ["nima", "laion", "embedding", "labels", "captions", "syncnet"])
def test_weights_that_forbid_business_are_refused_unless_accepted(name: str, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", "---\ntags:\n- x\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    given = {"scorer": {name: _options(name, model)}}
    folder = CurationFolder(tmp_path / "out")
    with pytest.raises(OptionError, match=r"for non-commercial use only; set accept_noncommercial = true"):
        stages_of([name], CurationConfig.load(given), folder)
    [stage] = stages_of([name], CurationConfig.load(given, {"accept_noncommercial": True}), folder)
    assert stage.name == name


@pytest.mark.parametrize("name", ["nima", "laion", "embedding", "labels", "captions"])
def test_weights_that_allow_it_are_not(name: str, tmp_path: Path) -> None:
    model = _model(tmp_path / "model", "---\nlicense: apache-2.0\n---\n")
    scorer = create_scorer(name, _options(name, model))
    assert "apache-2.0" in {weight.license for weight in scorer.weights}
    stages_of([name], CurationConfig.load({"scorer": {name: _options(name, model)}}), CurationFolder(tmp_path / "out"))


def test_the_licence_of_nima_can_be_stated() -> None:
    for license, flag in (("CC-BY-NC-4.0", False), ("ask us", True)):
        [weights] = create_scorer("nima", {"model": "x", "license": license, "is_noncommercial": flag}).weights
        assert weights.is_noncommercial and weights.license == license


def test_a_card_is_read_from_its_front_matter_only(tmp_path: Path) -> None:
    other = _model(tmp_path / "other", "---\nlicense: other\nlicense_name: 'acme-research-1'\n---\n")
    assert card_license(other) == "acme-research-1" and named_weights("x", other).is_noncommercial
    assert card_license(_model(tmp_path / "prose", "license: cc-by-nc-4.0\n")) is None
    assert card_license(_model(tmp_path / "bare", None)) is None
    assert named_weights("x", str(tmp_path / "nowhere")).license == UNKNOWN


def test_words_of_licences() -> None:
    for words in ("cc-by-nc-sa-4.0", "PolyForm-Noncommercial-1.0.0", "NC", "for research only", "non-commercial"):
        assert forbids_business(words), words
    for words in ("apache-2.0", "MIT", "NCSA", "cc-by-4.0", "openrail++", ""):
        assert not forbids_business(words), words
