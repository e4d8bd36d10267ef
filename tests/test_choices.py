"""Options by preset: sorted, renamed, or refused; and nothing heavy for the preset that needs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from avatar.choices import OWN_OPTIONS, PUBLISHED_OPTIONS, choices_for
from avatar.errors import OptionError
from avatar.pipeline import Options
from avatar.wan.pipeline import WanOptions

OF_LOADING = {"runtime", "memory", "reference"}


def test_every_option_is_one_that_the_pipeline_has() -> None:
    assert set(OWN_OPTIONS.values()) - OF_LOADING <= set(Options.__annotations__)
    assert set(PUBLISHED_OPTIONS.values()) - OF_LOADING <= set(WanOptions.__annotations__)


def test_options_are_sorted_and_renamed() -> None:
    given = {"seed": 1, "size": 64, "guidance": 2.0, "memory": "low", "prompt": "a garden"}
    choices = choices_for("debug:multitalk", given, notify=print)
    assert choices.published
    assert choices.loading == {"memory": "low", "notify": print}
    assert choices.video == {"seed": 1, "size_px": 64, "audio_guidance_scale": 2.0, "prompt": "a garden"}
    own = choices_for("embedded", {"guidance": 2.0, "runtime": "openvino"}, notify=print)
    assert not own.published
    assert own.loading == {"runtime": "openvino", "notify": print} and own.video == {"guidance_scale": 2.0}
    assert choices_for("embedded", {}, notify=print).loading == {}


def test_emotion_is_for_those_who_bring_an_adapter_for_it() -> None:
    choices = choices_for("debug:multitalk", {"emotion": "happy", "reference": "mine.safetensors"})
    assert choices.loading == {"reference": "mine.safetensors"} and choices.video == {"emotion": "happy"}


def test_the_word_faces_is_no_picture() -> None:
    assert choices_for("debug:multitalk", {"masks": ["faces"]}).video == {"masks": "faces"}
    assert choices_for("debug:multitalk", {"masks": ["a.png", "b.png"]}).video == {"masks": ["a.png", "b.png"]}


def test_all_that_is_refused_is_named_at_once() -> None:
    with pytest.raises(OptionError, match="'debug:multitalk' has no --emotion, --head-motion; it takes .*--speaker"):
        choices_for("debug:multitalk", {"emotion": "happy", "head_motion": 0.0, "seed": 1})


def test_the_embedded_presets_options_are_sorted_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from avatar.choices import choices_for; choices_for('embedded', {'emotion': 'happy'}); "
        "heavy = [name for name in ('torch', 'numpy', 'avatar.hub', 'avatar.wan') if name in sys.modules]; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
