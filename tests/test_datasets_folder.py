"""The repository's `datasets/` folder holds recipes, and must not shadow Hugging Face's package of that name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_import_datasets_from_the_repository_root_finds_the_package() -> None:
    code = "import datasets; print(datasets.__file__); datasets.Dataset.from_dict({'a': [1]})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert ROOT / "datasets" not in Path(result.stdout.strip()).parents


def test_the_folder_holds_no_python() -> None:
    assert (ROOT / "datasets" / "README.md").is_file()
    assert list((ROOT / "datasets").rglob("*.py")) == []
