"""Native libraries: what is absent is named, chatter is hidden, real messages are not."""

from __future__ import annotations

import builtins
import importlib
import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

import avatar.identity
from avatar.errors import MissingDependencyError
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.identity.native import quiet_native_log

NO_LIBGL = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")


def _break_import(monkeypatch: pytest.MonkeyPatch, package: str, err: ImportError) -> None:
    real = builtins.__import__

    def fail(name: str, *args: object, **kwargs: object) -> ModuleType:
        if name.split(".")[0] == package:
            raise err
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)


def test_a_missing_libgl_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_import(monkeypatch, "mediapipe", NO_LIBGL)
    with pytest.raises(MissingDependencyError, match=r"libGL\.so\.1.*apt-get install libgl1") as err:
        MediaPipeFaces().detect(np.zeros((32, 32, 3), np.uint8))
    assert "\n" not in str(err.value)


def test_opencv_without_libgl_is_named_when_the_stage_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_import(monkeypatch, "cv2", NO_LIBGL)
    with pytest.raises(MissingDependencyError, match=r"OpenCV.*libGL\.so\.1.*apt-get install libgl1"):
        importlib.reload(avatar.identity)


def test_a_missing_mediapipe_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_import(monkeypatch, "mediapipe", ModuleNotFoundError("No module named 'mediapipe'"))
    with pytest.raises(MissingDependencyError, match="pip install mediapipe==0.10.21"):
        MediaPipeFaces().detect(np.zeros((32, 32, 3), np.uint8))


def test_a_mediapipe_without_the_face_mesh_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = ModuleType("mediapipe")
    newer.__version__ = "0.10.35"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mediapipe", newer)
    with pytest.raises(MissingDependencyError, match=r"0\.10\.35 has no face mesh.*==0\.10\.21"):
        MediaPipeFaces().detect(np.zeros((32, 32, 3), np.uint8))


def test_chatter_is_hidden_and_real_messages_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_native_log():
        os.write(2, b"W0000 00:00:1732.1 1742 inference_feedback_manager.cc:114] Feedback manager\n")
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"Segmentation model is corrupt\n")
    assert capfd.readouterr().err == "Segmentation model is corrupt\n"


def test_standard_error_works_again_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), quiet_native_log():
        raise RuntimeError("inside")
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"


def test_finding_a_face_in_a_fresh_process_prints_nothing() -> None:
    code = (
        "import numpy as np; from avatar.identity.mediapipe_faces import MediaPipeFaces as M; m = M(); "
        "image = np.full((64, 64, 3), 90, np.uint8); m.detect(image); m.person_mask(image)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
