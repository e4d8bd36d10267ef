"""A recipe says where a corpus comes from, under which licence, what it declares, and which reader knows its layout."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import avatar
from avatar.data.manifest import DECLARABLE, SourceRecord
from avatar.errors import MediaError, OptionError, words_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(avatar.__file__).resolve().parent
FOLDERS = (_PACKAGE / "data" / "recipes", _PACKAGE.parent / "datasets")  # in an installed package, in a checkout
READERS = ("celebv_hq", "crema_d", "folder", "grid", "hdtf", "koala_36m", "mead", "ravdess", "talkvid", "voxceleb2")


@dataclass(frozen=True)
class Recipe:
    """One corpus.

    Attributes:
        name: what `--recipe` takes.
        title: the corpus's own name.
        reader: module of `avatar.data.readers`.
        homepage: where it comes from.
        license: of the videos, or of the list of them, in a line.
        is_noncommercial: whether that forbids commercial use.
        consent: what is known of the consent of the people in it.
        layout: how its files must lie, for people.
        declares: the labels it may declare.
        declared: labels that hold for every clip.
        curation: settings of `avatar curate` that fit the corpus better than the defaults.
    """

    name: str
    title: str
    reader: str
    homepage: str
    license: str
    is_noncommercial: bool
    consent: str
    layout: str
    declares: tuple[str, ...] = ()
    declared: Mapping[str, Any] = field(default_factory=dict)
    curation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise OptionError(
                f"recipe {self.name!r}: no reader is called {self.reader!r}; accepted: {', '.join(READERS)}"
            )
        strangers = sorted((set(self.declares) | set(self.declared)) - set(DECLARABLE))
        if strangers:
            raise OptionError(
                f"recipe {self.name!r} declares {', '.join(strangers)}; accepted: {', '.join(DECLARABLE)}"
            )


def recipe_names() -> list[str]:
    """The recipes that come with the package, sorted."""
    return sorted({path.parent.name for folder in FOLDERS for path in folder.glob("*/recipe.toml")})


def load_recipe(recipe: str | Path) -> Recipe:
    """A recipe by its name, or from a TOML file of one's own.

    Raises:
        OptionError: there is none of this name, or the file lacks or has keys that a recipe does not.
    """
    path = next((p for folder in FOLDERS if (p := folder / str(recipe) / "recipe.toml").is_file()), Path(recipe))
    if not path.is_file():
        raise OptionError(f"no recipe is called {str(recipe)!r}; accepted: {', '.join(recipe_names())}, or a TOML file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe(**{**values, "declares": tuple(values.get("declares", ()))})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as err:
        raise OptionError(f"the recipe {path} cannot be used: {err}; it has the keys {', '.join(_keys())}") from err


def read_corpus(recipe: str | Path, root: Path) -> Iterator[SourceRecord]:
    """The videos of a corpus that are on disk, with what the corpus declares of them.

    Args:
        recipe: a name or a TOML file.
        root: where the corpus lies.

    Raises:
        OptionError: no such recipe.
        MediaError: a file that the reader needs is missing or not what the corpus has, or none of its videos is there.
    """
    known = load_recipe(recipe)
    read: Callable[[Path], Iterator[SourceRecord]] = importlib.import_module(f"avatar.data.readers.{known.reader}").read
    if not root.is_dir():
        raise MediaError(f"there is no folder {root}; name the one that holds {known.title}")
    count = 0
    for record in _readable(read(root), known, root):
        count += 1
        declared = {name: value for name, value in {**known.declared, **record.declared}.items() if value is not None}
        yield replace(
            record,
            license=record.license or known.license,
            consent=record.consent or known.consent,
            declared=declared,
        )
    if not count:
        raise MediaError(f"{root} holds no video of {known.title}; it should lie like this:\n{known.layout.rstrip()}")


def _readable(records: Iterator[SourceRecord], known: Recipe, root: Path) -> Iterator[SourceRecord]:
    """The records; what a reader stumbles over in the corpus's lists becomes an error that names them."""
    try:
        yield from records
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
        raise MediaError(
            f"the lists or names of {known.title} in {root} are not as its reader knows them ({words_of(err)}); "
            "download them again, or write a labels.csv and use the recipe `folder`"
        ) from err


def _keys() -> list[str]:
    return list(Recipe.__dataclass_fields__)
