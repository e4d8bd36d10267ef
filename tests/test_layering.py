"""Imports point downward only; parsed from the source, so that lazy imports inside functions count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "avatar"

FOUNDATION = {"types", "errors", "media", "face_mesh"}
STAGES = {"audio", "identity", "emotion", "codec", "dit"}
BESIDE_PIPELINE = {"data", "train", "evaluate", "study", "provenance"}

# What each part may import besides itself. Whatever is not listed here may import nothing of the package.
MAY_IMPORT: dict[str, set[str]] = {
    **{part: FOUNDATION for part in FOUNDATION},
    **{part: FOUNDATION for part in STAGES},
    **{part: FOUNDATION | STAGES for part in BESIDE_PIPELINE},
    "presets": {"errors"},
    "clip": FOUNDATION,
    "debug": FOUNDATION | STAGES,
    "parts": FOUNDATION | STAGES,
    "runtime": FOUNDATION | STAGES,
    "wan": FOUNDATION | STAGES | {"clip"},
    "hub": FOUNDATION | STAGES | {"debug", "presets", "wan"},
    "choices": {"errors", "hub", "presets"},
    "performer": FOUNDATION | STAGES,
    "pipeline": FOUNDATION | STAGES | {"clip", "hub", "parts", "performer", "presets", "runtime", "wan"},
    # what is measured is what the pipeline does
    "evaluate": FOUNDATION | STAGES | {"performer"},
    # training begins with a pipeline, and what it writes is one
    "train": FOUNDATION | STAGES | {"hub", "pipeline", "presets", "wan"},
    # a study may make the clips of a preset itself
    "study": FOUNDATION | STAGES | {"choices", "pipeline"},
    "cli": FOUNDATION | STAGES | BESIDE_PIPELINE | {"choices", "hub", "presets", "runtime", "pipeline"},
    "__init__": FOUNDATION | STAGES | {"clip", "presets", "pipeline"},
}
# Siblings that may see one another, each with its reason.
ALLOWED_SIBLINGS: dict[tuple[str, str], str] = {
    ("codec", "identity"): "the renderer finds the person in the picture itself where no mask is given",
    ("emotion", "audio"): "prosody is measured where somebody speaks",
    ("dit", "audio"): "a published adapter names the speech front end it was trained behind",
    ("train", "data"): "training reads the clips that data describes",
    ("evaluate", "data"): "reports are made over a manifest",
}


def _part(path: Path) -> str:
    """`avatar/codec/mesh/rig.py` -> `codec`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imported_parts(path: Path, root: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """(line, part of the package) for each import of this package in a file, wherever in the file it stands."""
    package = ("avatar", *path.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or "").split(".") if node.module else ())
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "avatar" and len(name) > 1 and name[1] != "__version__":
                yield node.lineno, name[1]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    part = _part(path)
    assert part in MAY_IMPORT, f"{part} has no place in the layers; give it one in this test and in README.md"
    for line, imported in _imported_parts(path):
        allowed = imported == part or imported in MAY_IMPORT[part] or (part, imported) in ALLOWED_SIBLINGS
        assert allowed, f"{path.relative_to(PACKAGE)}:{line}: {part} must not import {imported}"


def test_nothing_imports_the_command_line() -> None:
    importers = [path for path in MODULES if _part(path) != "cli" for _, part in _imported_parts(path) if part == "cli"]
    assert importers == []


def test_the_check_sees_lazy_relative_and_plain_imports(tmp_path: Path) -> None:
    module = tmp_path / "audio" / "voice.py"
    module.parent.mkdir()
    module.write_text(
        "import avatar.cli\n"
        "from ..dit import sampler\n"
        "from . import mel\n"
        "from avatar import __version__, AvatarPipeline\n"
        "def f():\n    from avatar.codec.mesh import rig\n"
    )
    assert sorted(_imported_parts(module, root=tmp_path)) == [
        (1, "cli"),
        (2, "dit"),
        (3, "audio"),
        (4, "AvatarPipeline"),
        (6, "codec"),
    ]


def test_only_one_module_imports_mediapipe() -> None:
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.split(".")[0] == "mediapipe"
    }
    assert importers <= {"identity/mediapipe_faces.py"}
