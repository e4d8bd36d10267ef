"""The command line with a stand-in for the pipeline: what is passed on, what is printed, how each failure ends."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import avatar
from avatar.cli import _step_progress, _with_progress, main
from avatar.errors import NoFaceError
from avatar.media import probe_video
from avatar.types import BBox, VideoShape

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PORTRAIT, SPEECH = str(EXAMPLES / "astronaut.png"), str(EXAMPLES / "hello.wav")


class FakePipeline:
    """Streams grey frames, and notes what it was asked for."""

    asked: dict[str, Any]
    failure: BaseException | None = None

    @classmethod
    def from_pretrained(cls, preset: str) -> FakePipeline:
        cls.asked = {"preset": preset}
        return cls()

    def stream(self, **options: Any) -> FakeStream:
        type(self).asked.update(options)
        return FakeStream(options["speech"], self.failure)


class FakeStream:
    shape = VideoShape(num_frames=10, height_px=32, width_px=48)

    def __init__(self, speech: Path, failure: BaseException | None) -> None:
        self.speech = speech
        self._failure = failure

    def __iter__(self) -> Iterator[np.ndarray]:
        yield np.full((4, 32, 48, 3), 128, np.uint8)
        if self._failure is not None:
            raise self._failure
        yield np.full((6, 32, 48, 3), 128, np.uint8)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> type[FakePipeline]:
    module = ModuleType("avatar.pipeline")
    module.AvatarPipeline = FakePipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "avatar.pipeline", module)
    monkeypatch.setattr(FakePipeline, "failure", None)
    return FakePipeline


def test_the_path_of_the_video_is_all_that_goes_to_stdout(
    pipeline: type[FakePipeline], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "10 frames" in printed.err
    assert (probe_video(out).width, probe_video(out).height) == (48, 32)


def test_what_is_not_asked_for_is_left_to_the_preset(pipeline: type[FakePipeline], tmp_path: Path) -> None:
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4")]) == 0
    assert pipeline.asked == {"preset": "embedded", "portrait": Path(PORTRAIT), "speech": Path(SPEECH)}


def test_every_option_reaches_the_pipeline(pipeline: type[FakePipeline], tmp_path: Path) -> None:
    options = (
        f"--preset debug --emotion happy:0.6 --seed 7 --size 512 --face 10,20,110,140 --speaker 2={SPEECH} "
        f"--speaker 5,6,70,80={SPEECH} --speaker left={SPEECH} --steps 4 --guidance 1.5 --head-motion 0.5"
    )
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4"), *options.split()]) == 0
    asked = pipeline.asked
    assert (asked["preset"], asked["emotion"], asked["seed"], asked["size_px"]) == ("debug", "happy:0.6", 7, 512)
    assert asked["face"] == BBox(10, 20, 110, 140)
    assert asked["speakers"] == [(2, Path(SPEECH)), (BBox(5, 6, 70, 80), Path(SPEECH)), ("left", Path(SPEECH))]
    assert (asked["num_inference_steps"], asked["guidance_scale"], asked["head_motion"]) == (4, 1.5, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--face", "behind"], "neither a face's number nor a box L,T,R,B in pixels nor one of left, right"),
        (["--face", "10,10,5,20"], "is empty"),
        (["--speaker", "her.wav"], "is not FACE=SPEECH"),
        (["--speaker", "2="], "is not FACE=SPEECH"),
        (["--seed", "x"], "invalid int value"),
        (["--hat"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_option(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["animate", PORTRAIT, SPEECH, "-o", "out.mp4", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (NoFaceError("no face in me.png"), 2, "avatar: error: no face in me.png"),
        (KeyboardInterrupt(), 130, "avatar: interrupted; nothing was written"),
        (
            MemoryError(),
            1,
            "avatar: error: there is not enough memory; try --memory low with a published preset, or a smaller --size",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
            1,
            "avatar: error: there is not enough memory; try --memory low with a published preset, or a smaller --size",
        ),
        (
            ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
            1,
            "avatar: error: the system library libGL.so.1 is missing; on Debian or Ubuntu: apt-get install libgl1",
        ),
        (
            ImportError("libodd.so.3: cannot open shared object file: No such file or directory"),
            1,
            "avatar: error: the system library libodd.so.3 is missing; install the package that has it",
        ),
        (
            ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe"),
            1,
            "avatar: error: the Python package 'mediapipe' is not installed; pip install it, or run make again",
        ),
    ],
    ids=["input", "ctrl-c", "memory", "device memory", "libGL", "other library", "package"],
)
def test_a_failure_is_one_line_and_leaves_no_file(
    failure: BaseException,
    code: int,
    line: str,
    pipeline: type[FakePipeline],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakePipeline, "failure", failure)
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4")]) == code
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == line
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(
    pipeline: type[FakePipeline],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_space(*args: Any, **kwargs: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", "out.mp4")

    monkeypatch.setattr("avatar.media.write_video", no_space)
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4")]) == 1
    assert "avatar: error: out.mp4: the disk is full" in capsys.readouterr().err


def test_other_errors_of_our_own_are_not_hidden(
    pipeline: type[FakePipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakePipeline, "failure", RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4")])


def test_debug_shows_the_trace(
    pipeline: type[FakePipeline],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakePipeline, "failure", NoFaceError("no face"))
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(tmp_path / "out.mp4"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_paths_are_checked_before_the_model_is_loaded(
    pipeline: type[FakePipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(preset: str) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(FakePipeline, "from_pretrained", loaded)
    out = tmp_path / "out.mp4"
    assert main(["animate", "missing.png", SPEECH, "-o", str(out)]) == 2
    assert main(["animate", PORTRAIT, "missing.wav", "-o", str(out)]) == 2
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(out), "--speaker", "2=missing.wav"]) == 2
    out.touch()
    assert main(["animate", PORTRAIT, SPEECH, "-o", str(out)]) == 1


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_a_few_lines_elsewhere() -> None:
    blocks = [np.zeros((4, 2, 2, 3), np.uint8)] * 25
    terminal, file = _Terminal(), io.StringIO()
    assert len(list(_with_progress(blocks, 100, 25.0, terminal))) == 25
    assert len(list(_with_progress(blocks, 100, 25.0, file))) == 25
    assert "100/100" in terminal.getvalue()
    assert file.getvalue().splitlines() == [
        "avatar: 100 frames to make (4.0 s of video)",
        "avatar: 28 of 100 frames",
        "avatar: 52 of 100 frames",
        "avatar: 76 of 100 frames",
        "avatar: 100 of 100 frames",
    ]


def test_steps_are_a_bar_on_a_terminal_and_a_few_lines_elsewhere() -> None:
    terminal, file = _Terminal(), io.StringIO()
    for err in (terminal, file):
        tell = _step_progress(err)
        for done in range(1, 41):
            tell(done, 40)
    assert "40/40" in terminal.getvalue()
    assert [line.split(",")[0] for line in file.getvalue().splitlines()] == [
        f"avatar: step {done} of 40" for done in (1, 10, 20, 30, 40)
    ]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"avatar {avatar.__version__}\n"
