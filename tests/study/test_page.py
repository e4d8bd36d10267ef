"""The rating page as a file: safe to inline, complete in every language, and silent towards the network."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest

from avatar.errors import OptionError
from avatar.study.formats import PAGE_LANGUAGES, SCALES, Study, Trial
from avatar.study.page import content_security_policy, page_languages, page_words, render_page

NASTY = "</script><script>alert(1)</script><!-- & @style@ \u2028 'quotes' \""


def _study(**changes: object) -> Study:
    trials = (Trial("t1", "media/a.mp4", None, 2.0), Trial("t2", "media/b.mp4", "media/c.jpg", 2.0))
    study = Study(
        id="9f0c",
        version="5d21",
        title={"en": "A study"},
        about={"en": ""},
        contact="",
        pay="",
        data_until="",
        languages=("en", "zh", "ar"),
        scales=tuple(SCALES),
        ask=("culture",),
        minutes=5,
        practice=trials[:1],
        slots=(trials[1:],),
    )
    return replace(study, **changes)  # type: ignore[arg-type]


def _block(page: str, name: str) -> dict[str, object]:
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    return json.loads(text)


def test_the_page_holds_the_study_as_it_is() -> None:
    study = _study(title={"en": NASTY}, contact=NASTY)
    page = render_page(study)
    told = _block(page, "study")
    assert {name: told[name] for name in study.to_json()} == study.to_json()
    assert page.count("<script") == 3 and page.count("</script>") == 3
    assert f"<title>{html.escape(NASTY)}</title>" in page
    assert NASTY not in page


def test_behind_a_server_the_page_holds_no_trials() -> None:
    told = _block(render_page(_study(), collected=True, invited=True), "study")
    assert told["collected"] is told["invited"] is True
    assert "slots" not in told and "practice" not in told
    assert told["num_slots"] == told["num_trials"] == 1


def test_the_page_names_no_other_place_on_the_network() -> None:
    page = render_page(_study())
    without_names = page.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody fetches
    without_names = re.sub(r"sha256-[\w+/=]+", "", without_names)  # base64 has slashes of its own
    assert not re.search(
        r"https?:|//[a-z]|url\(|@import|eval\(|innerHTML|document\.write", without_names.replace("file://", "")
    )
    assert not re.search(r"<(link|img|iframe|object)[^>]*(src|href)=\"(?!data:,)", page)


def test_the_policy_allows_the_one_script_and_style_that_are_there() -> None:
    policy = content_security_policy()
    assert html.escape(policy) in render_page(_study())
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
    assert len(re.findall("sha256-", policy)) == 2


def test_the_page_is_the_same_bytes_each_time() -> None:
    assert render_page(_study()) == render_page(_study())


def test_every_language_has_every_word_with_the_same_gaps() -> None:
    assert set(page_languages()) == set(PAGE_LANGUAGES)
    english = page_words("en")
    for language in page_languages():
        words = page_words(language)
        assert list(words) == list(english), language
        for key, text in words.items():
            assert text.strip() and set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", english[key])), (
                language,
                key,
            )
    assert {f"{what}_{scale}" for scale in SCALES for what in ("scale", "ask")} <= set(english)


def test_every_word_that_the_script_asks_for_is_there_and_none_besides() -> None:
    script = render_page(_study()).rpartition("<script>")[2]
    asked = set(re.findall(r'"([a-z][a-z_]+)"', script))
    english = {key for key in page_words("en") if not re.match(r"_|anchor_|scale_[A-Z]|ask_[A-Z]", key)}
    assert english <= asked, sorted(english - asked)
    for key in re.findall(
        r'(?:text|label|hint): "(\w+)"|(?:say|paragraph|announce|mainButton|button)\((?:\w+, )?"(\w+)"', script
    ):
        assert (key[0] or key[1]) in page_words("en"), key


def test_a_language_without_words_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="no words in 'tlh'; it has ar, en, zh"):
        render_page(_study(languages=("tlh",)))


def test_only_the_languages_of_the_study_are_inside() -> None:
    assert set(_block(render_page(_study(languages=("zh",))), "words")) == {"en", "zh"}
