"""The scorers of a pass, as the configuration names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.scoring import stages_of
from avatar.errors import OptionError


def test_no_two_scorers_fill_one_column(tmp_path: Path) -> None:
    config = CurationConfig.load({"accept_noncommercial": True})
    assert len(stages_of(config["scorers"], config, CurationFolder(tmp_path))) == len(config["scorers"])
    for names, column in ((["aesthetics", "laion"], "aes_score"), (["sync", "syncnet"], "sync_conf")):
        with pytest.raises(OptionError, match=f"{names[0]!r} and {names[1]!r} both fill .*{column}.*name one of them"):
            stages_of(names, config, CurationFolder(tmp_path))
