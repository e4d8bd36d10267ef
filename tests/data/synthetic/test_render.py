"""The synthetic corpus as videos: what is in them, that they can be made again, and that a stopped run goes on."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from avatar.data.synthetic import corpus, render
from avatar.data.synthetic.render import find_portraits, render_clips
from avatar.data.synthetic.synthesise import Utterance
from avatar.data.synthetic.voices import HELD_OUT, VOICES, Voice
from avatar.emotion.labels import EmotionMix
from avatar.errors import FaceError, MediaError, OptionError
from avatar.media import probe_video, read_picture, read_video, read_waveform, write_picture

Say = Callable[..., Utterance]
PORTRAIT = Path(__file__).parents[3] / "examples" / "astronaut.png"
FAKE = (
    Voice("fake-one", "espeak", "cmn-latn-pinyin", "pinyin", 0.0005, "licence one"),
    Voice("fake-two", "flite", "two", "english", 0.0005, "licence two", HELD_OUT),
)
SIZE_PX = 128


@pytest.fixture
def speech(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A corpus of two voices that say one short thing."""

    def speak(voice: Voice, seed: int) -> Iterator[Utterance]:
        while True:
            yield say(("m", 0.1), ("a", 0.25), ("m", 0.1), ("o", 0.15), level=0.1)

    for module in (corpus, render):
        monkeypatch.setattr(module, "VOICES", FAKE)
    monkeypatch.setattr(corpus, "utterances", speak)
    corpus.make_speech(tmp_path / "speech", seed=0)
    return tmp_path / "speech"


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _render(speech: Path, out: Path, num_clips: int = 2, seed: int = 0) -> list[dict[str, str]]:
    return _rows(render_clips(speech, out, num_clips, [PORTRAIT], seed=seed, size_px=SIZE_PX))


def test_clips_are_videos_of_the_portrait_with_sound_as_the_manifest_says(speech: Path, tmp_path: Path) -> None:
    rows = _render(speech, tmp_path / "out")
    assert {(row["voice"], row["language"], row["split"], row["voice_licence"]) for row in rows} == {
        ("fake-one", "cmn", "train", "licence one"),
        ("fake-two", "en", HELD_OUT, "licence two"),
    }
    row = rows[0]
    path = tmp_path / "out" / row["path"]
    info = probe_video(path)
    assert (info.width, info.height, info.fps) == (SIZE_PX, SIZE_PX, 25)
    assert info.duration_s == pytest.approx(float(row["duration_s"]), abs=0.01)
    frames = np.stack(list(read_video(path))).astype(int)
    still = read_picture(PORTRAIT).reshape(SIZE_PX, 4, SIZE_PX, 4, 3).mean(axis=(1, 3))
    assert np.abs(frames[0] - still).mean() < 4  # the video begins as the portrait ...
    assert np.abs(frames[-1] - frames[0]).mean() > 0.3  # ... which then moves
    sound = read_waveform(path).samples
    assert np.abs(sound[:4000]).max() < 0.02 < np.abs(sound).max()  # silence first, then speech
    assert sum(EmotionMix.parse(row["emotion"]).weights) <= 1


def test_the_same_seed_makes_the_same_clips_and_another_one_others(speech: Path, tmp_path: Path) -> None:
    first, again, other = (_render(speech, tmp_path / name, 1, seed) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    assert first == again
    assert first[0]["seed"] != other[0]["seed"]
    a, b = (list(read_video(tmp_path / name / first[0]["path"])) for name in "ab")
    assert np.array_equal(a, b)


def test_a_stopped_run_goes_on_and_more_clips_keep_the_ones_there(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _render(speech, tmp_path / "whole", 3)
    out = tmp_path / "out"
    real, calls = render.write_video, []

    def dies_at_the_second(path: Path, *args: object, **kwargs: object) -> Path:
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(render, "write_video", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        _render(speech, out)
    assert len(list((out / "clips").iterdir())) == 1
    assert _render(speech, out, 3) == whole
    assert sorted(calls[2:] + calls[:1]) == sorted(Path(row["path"]).name for row in whole)
    calls.clear()
    assert _render(speech, out, 3) == whole
    assert calls == []


def test_clips_of_other_settings_are_not_mixed(speech: Path, tmp_path: Path) -> None:
    _render(speech, tmp_path / "out", 1, seed=0)
    with pytest.raises(OptionError, match="another seed, size or set of portraits"):
        _render(speech, tmp_path / "out", 1, seed=1)


def test_a_portrait_without_a_face_is_named_before_anything_is_made(speech: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(PORTRAIT, pictures / "a.png")
    write_picture(pictures / "b.png", np.full((256, 256, 3), 128, np.uint8))
    portraits = find_portraits(pictures)
    assert [path.name for path in portraits] == ["a.png", "b.png"]
    with pytest.raises(FaceError, match="b.png"):
        render_clips(speech, tmp_path / "out", 1, portraits)
    assert not (tmp_path / "out").exists()


def test_bad_requests_say_what_is_accepted(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionError, match="must be 1 or more, not 0"):
        render_clips(speech, out, 0, [PORTRAIT])
    with pytest.raises(OptionError, match="size_px must be at least 64, not 8"):
        render_clips(speech, out, 1, [PORTRAIT], size_px=8)
    with pytest.raises(OptionError, match="at least one portrait"):
        render_clips(speech, out, 1, [])
    with pytest.raises(OptionError, match="is not a folder"):
        find_portraits(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="holds no pictures"):
        find_portraits(tmp_path / "empty")
    with pytest.raises(MediaError, match="make the corpus first"):
        render_clips(tmp_path / "empty", out, 1, [PORTRAIT])


def test_every_voice_has_a_language_and_takes_its_turn() -> None:
    assert {render._language(voice) for voice in VOICES} >= {"en", "de", "ru", "cmn", "pt-br", "hi"}
    assert sorted(render._voice(0, index).name for index in range(len(VOICES))) == sorted(v.name for v in VOICES)
