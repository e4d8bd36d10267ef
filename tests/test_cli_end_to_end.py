"""End to end through the command line: a good run is quiet; bad input is one line, the right code, and no file left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar.cli import main
from avatar.media import read_picture, write_picture
from avatar.pipeline import AvatarPipeline

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PORTRAIT, SPEECH = EXAMPLES / "astronaut.png", EXAMPLES / "hello.wav"

Animate = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def loaded() -> AvatarPipeline:
    return AvatarPipeline.from_pretrained("debug")  # the real classes, small


@pytest.fixture
def animate(
    loaded: AvatarPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Animate:
    """Runs `avatar animate`; checks what holds for every failure; returns the exit code and the error's line."""
    monkeypatch.setattr(AvatarPipeline, "from_pretrained", lambda preset: loaded)

    def run(portrait: Path, speech: Path, *options: str, out: Path | None = None) -> tuple[int, str]:
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        before = {path: path.read_bytes() for path in folder.iterdir()}
        code = main(["animate", str(portrait), str(speech), "-o", str(out or folder / "video.mp4"), *options])
        printed = capsys.readouterr()
        assert code != 0
        assert printed.out == ""
        assert "Traceback" not in printed.err
        (line,) = re.findall("^avatar: (?:error: |interrupted).*", printed.err, flags=re.MULTILINE)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        return code, line

    return run


def _face_free(path: Path) -> Path:
    rows, columns = np.mgrid[0:256, 0:256]
    return write_picture(path, np.stack([rows, columns, (rows + columns) // 2], axis=-1).astype(np.uint8))


def _bad_file(tmp_path: Path, kind: str, suffix: str) -> Path:
    path = tmp_path / f"bad{suffix}"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is a letter to a friend, renamed by mistake.\n" * 20)
    elif kind == "half":
        whole = (PORTRAIT if suffix == ".png" else SPEECH).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text", "half"])
def test_a_bad_portrait_is_named(kind: str, animate: Animate, tmp_path: Path) -> None:
    bad = _bad_file(tmp_path, kind, ".png")
    code, line = animate(bad, SPEECH)
    assert code == 2
    assert str(bad) in line


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text", "half"])
def test_a_bad_speech_file_is_named(kind: str, animate: Animate, tmp_path: Path) -> None:
    bad = _bad_file(tmp_path, kind, ".wav")
    code, line = animate(PORTRAIT, bad)
    assert code == 2
    assert str(bad) in line


def test_a_picture_of_one_pixel_is_too_small(animate: Animate, tmp_path: Path) -> None:
    dot = write_picture(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    code, line = animate(dot, SPEECH)
    assert code == 2
    assert "too small" in line


def test_a_picture_without_a_face_says_so(animate: Animate, tmp_path: Path) -> None:
    code, line = animate(_face_free(tmp_path / "sky.png"), SPEECH)
    assert code == 2
    assert re.search("no (human )?face", line)


def test_two_faces_ask_for_a_choice(animate: Animate, tmp_path: Path) -> None:
    one = read_picture(PORTRAIT)
    both = write_picture(tmp_path / "both.png", np.concatenate([one, one[:, ::-1]], axis=1))
    code, line = animate(both, SPEECH)
    assert code == 2
    assert "--face" in line


def test_an_unknown_emotion_names_the_known_ones(animate: Animate) -> None:
    code, line = animate(PORTRAIT, SPEECH, "--emotion", "hungry")
    assert code == 2
    assert "hungry" in line
    assert "happy" in line


@pytest.mark.parametrize(
    ("option", "value"), [("--emotion", "happy:loud"), ("--size", "0"), ("--steps", "0"), ("--face", "9")]
)
def test_an_option_out_of_range_is_refused(option: str, value: str, animate: Animate) -> None:
    code, _ = animate(PORTRAIT, SPEECH, option, value)
    assert code == 2


def test_an_existing_output_stays_as_it_was(animate: Animate, tmp_path: Path) -> None:
    out = tmp_path / "out" / "video.mp4"
    out.parent.mkdir()
    out.write_bytes(b"precious")
    code, line = animate(PORTRAIT, SPEECH)
    assert code == 1
    assert "--overwrite" in line
    assert out.read_bytes() == b"precious"


def test_an_output_in_no_folder_is_refused(animate: Animate, tmp_path: Path) -> None:
    code, line = animate(PORTRAIT, SPEECH, out=tmp_path / "nowhere" / "video.mp4")
    assert code == 1
    assert "nowhere" in line


def test_an_output_that_is_a_folder_is_refused(animate: Animate, tmp_path: Path) -> None:
    code, _ = animate(PORTRAIT, SPEECH, out=tmp_path)
    assert code == 1


def test_an_output_in_a_locked_folder_is_refused(animate: Animate, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):  # root may write everywhere but here
        locked = Path("/proc")
    code, line = animate(PORTRAIT, SPEECH, out=locked / "video.mp4")
    assert code == 1
    assert str(locked) in line


_SMALL_FILES_ONLY = """
import resource, sys
from avatar.cli import main
from avatar.pipeline import AvatarPipeline, debug_pipeline
pipe = debug_pipeline()
pipe.codec.warm_up()  # compiled code is cached in files of its own
AvatarPipeline.from_pretrained = classmethod(lambda cls, name: pipe)
resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))
sys.exit(main(sys.argv[1:]))
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """No file may grow beyond 16 kB, in a process of its own: this one may be writing its report to a file."""
    out = tmp_path / "video.mp4"
    command = ["animate", str(PORTRAIT), str(SPEECH), "-o", str(out), "--size", "256"]
    run = subprocess.run([sys.executable, "-c", _SMALL_FILES_ONLY, *command], capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "video.mp4" in run.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_half_way_leaves_nothing(
    animate: Animate, loaded: AvatarPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**options: Any) -> Any:
        stream = real_stream(**options)

        class Interrupted:
            shape, speech = stream.shape, stream.speech

            def __iter__(self) -> Iterator[np.ndarray]:
                yield next(iter(stream))
                raise KeyboardInterrupt

        return Interrupted()

    real_stream = loaded.stream
    monkeypatch.setattr(loaded, "stream", interrupted)
    code, line = animate(PORTRAIT, SPEECH, "--size", "256")
    assert code == 130
    assert line == "avatar: interrupted; nothing was written"


def test_a_good_run_shows_its_own_progress_and_nothing_else(
    loaded: AvatarPipeline, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved, out = tmp_path / "saved", tmp_path / "video.mp4"
    loaded.save_pretrained(saved)
    capfd.readouterr()
    assert main(["animate", str(PORTRAIT), str(SPEECH), "-o", str(out), "--preset", str(saved), "--size", "128"]) == 0
    printed = capfd.readouterr()
    assert printed.out == f"{out}\n"
    assert printed.err.splitlines()
    assert [line for line in printed.err.splitlines() if not line.startswith("avatar: ")] == []


def test_a_machine_without_libgl_is_told_its_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    words = "libGL.so.1: cannot open shared object file: No such file or directory"
    (broken / "cv2.py").write_text(f"raise ImportError({words!r})")  # what importing OpenCV does there
    command = [sys.executable, "-m", "avatar.cli", "animate", PORTRAIT, SPEECH, "-o", tmp_path / "video.mp4"]
    environment = os.environ | {"PYTHONPATH": str(broken)}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "libGL.so.1" in done.stderr.splitlines()[-1]
    assert "apt-get install libgl1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_real_ctrl_c_ends_a_real_run_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avatar.cli", "animate", PORTRAIT, EXAMPLES / "rainbow.wav", "--preset", "debug"]
    process = subprocess.Popen(
        [*map(str, command), "-o", str(tmp_path / "video.mp4")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells start background jobs deaf to it
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "frames to make" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "avatar: interrupted; nothing was written"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
