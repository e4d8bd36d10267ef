"""What is said before a published system is loaded, and what is refused then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar.dit.published import PUBLISHED_PRESETS
from avatar.errors import OptionError
from avatar.hub.files import Place
from avatar.hub.load import _what_it_needs, load_published

PLACE = Place(PUBLISHED_PRESETS["multitalk"])


@pytest.mark.parametrize(("memory", "gigabytes"), [("low", 3), ("balanced", 38), ("fast", 51)])
def test_what_each_way_needs_is_said(memory: str, gigabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = _what_it_needs(PLACE, memory, "cpu")
    assert words.startswith(f"multitalk needs {gigabytes} GB for weights with --memory {memory} (GB: ")
    assert "fast 51, balanced 38, low 3" in words and "no accelerator here" in words
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * 10**9, 24 * 10**9))
    assert _what_it_needs(PLACE, memory, "cuda").endswith("this GPU has 20 GB free")


def test_it_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def load(*args: object) -> None:
        assert said == ["MultiTalk's needs"]
        raise InterruptedError

    monkeypatch.setattr("avatar.hub.load._load", load)
    monkeypatch.setattr("avatar.hub.load._NOISE", "{}'s needs")
    with pytest.raises(InterruptedError):
        load_published("debug:multitalk", notify=said.append)


def test_a_way_to_keep_weights_that_is_none_is_refused_before_loading() -> None:
    with pytest.raises(OptionError, match="--memory must be fast, balanced, low, not 'tiny'"):
        load_published("debug:multitalk", memory="tiny")
    with pytest.raises(OptionError, match="--memory balanced moves parts between the CPU and an accelerator"):
        load_published("debug:multitalk", memory="balanced", device="cpu")
