"""The rating page: one HTML file with its words, style and script inside, which works from a disk and asks nobody for anything.

`render_page` puts the parts of this folder and a study together; there is nothing to compile. The page's own
Content-Security-Policy allows this one script and clips from beside the page, and no other request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from avatar.errors import OptionError
from avatar.study.formats import Study

_SCRIPTS = "store words transport sound clip rating steps session".split()  # in this order


def render_page(study: Study, *, collected: bool = False, invited: bool = False) -> str:
    """The page of a study.

    Args:
        study: what to show. Nothing in it tells systems apart, and the page holds nothing else.
        collected: a server behind the page hands out slots and collects the answers; the page then holds no trials. Otherwise the
            rater gives a participant's number (or the address does: `index.html?participant=7`) and saves the answers as a file.
        invited: with `collected`: the server asks for an invitation code.

    Returns:
        HTML, to be saved as UTF-8 beside media/.

    Raises:
        OptionError: the study has a language that the page does not.
    """
    words = {language: page_words(language) for language in study.languages}
    words.setdefault("en", page_words("en"))  # where a study's own text lacks a language
    return _fill(
        _part("template.html"),
        csp=html.escape(content_security_policy()),
        title=html.escape(study.title.get(study.languages[0]) or study.title["en"]),
        style=_part("style.css"),
        study=_inline_json(_page_study(study, collected, invited)),
        words=_inline_json(words),
        script=_script(),
    )


def page_words(language: str) -> dict[str, str]:
    """The page's words in a language, by key.

    Raises:
        OptionError: there are none.
    """
    if language not in page_languages():
        raise OptionError(f"the rating page has no words in {language!r}; it has {', '.join(page_languages())}")
    words: dict[str, str] = json.loads(_part(f"words/{language}.json"))
    return words


@cache
def page_languages() -> tuple[str, ...]:
    """The languages the page can speak: its words/*.json."""
    names = (file.name for file in (files(__package__) / "words").iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


@cache
def content_security_policy() -> str:
    """What the page may do: its own script and style, clips and answers from and to where it came from; nothing else."""
    # "self" is not the folder where a page comes from a disk: hence file:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source_hash(_script())}",
            f"style-src {_source_hash(_part('style.css'))}",
            "img-src 'self' file: blob: data:",
            "media-src 'self' file: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _page_study(study: Study, collected: bool, invited: bool) -> dict[str, Any]:
    about = {
        **study.to_json(),
        "num_slots": len(study.slots),
        "num_trials": max((len(slot) for slot in study.slots), default=0),
        "collected": collected,
        "invited": invited,
    }
    if collected:
        del about["slots"], about["practice"]
    return about


@cache
def _script() -> str:
    parts = "\n".join(_part(f"script/{name}.js") for name in _SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{parts}}})();\n'


@cache
def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inline_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in, nor begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _fill(template: str, **values: str) -> str:
    """Puts each value in the place of @name@, in one pass, so that a value with @name@ in it stays as it is."""
    out = []
    for i, piece in enumerate(template.split("@")):
        out.append(values[piece] if i % 2 else piece)
    return "".join(out)
