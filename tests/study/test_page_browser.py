"""The rating page in a real browser: whole sessions from a disk and through the server, and what may go wrong in between.

Needs `apt-get install chromium` and the Python package playwright; skipped where they are absent. The raters of these tests
look at the clip that plays (at its pixels) and score what they see, so that the unblinded results can be held against the key.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from avatar.study.export import Exported, export_study  # noqa: E402
from avatar.study.formats import Key, read_key  # noqa: E402
from avatar.study.results import Session  # noqa: E402
from avatar.study.server import collected_sessions  # noqa: E402
from tests.study.browsing import PHONE, SCORES, Rater, look, serving  # noqa: E402
from tests.study.studies import write_systems  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium; apt-get install chromium")]

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    where = tmp_path_factory.mktemp("page")
    spec = write_systems(where, items=4)
    spec = replace(spec, practice=1, repeats=1, traps=1, raters=4, clips_per_rater=6, languages=("en", "zh", "ar"))
    return export_study(spec, where / "study", where / "key.json")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


def _check_against_the_key(session: Session, key: Key, num_trials: int) -> None:
    """Every trial has an answer, and unblinded it is what the rater saw."""
    assert len(session.answers) == num_trials
    for answer in session.answers:
        system = key.clips[key.trials[answer.trial]].system
        assert tuple(answer.scores.values()) == SCORES[system], (answer.trial, system)
        assert answer.played_s is not None and answer.played_s > 0.7 and answer.rt_s is not None and answer.rt_s >= 0


def test_the_looks_of_the_clips_are_told_apart(study: Exported) -> None:
    key = read_key(study.key)
    for clip, what in key.clips.items():
        assert look(study.folder / clip) == what.system, clip


def test_a_whole_session_from_a_disk_unblinds_to_the_key(browser: Any, study: Exported) -> None:
    rater = Rater(browser, study, (study.folder / "index.html").as_uri())
    rater.page.locator("main .button.main").click()
    assert "tick both boxes" in rater.page.locator(".error").inner_text()
    rater.consent(slot="9")
    assert "from 1 to 4" in rater.page.locator(".error").inner_text()
    rater.consent(slot="2")
    rater.up_to_the_clips()
    rater.rate()
    rater.to_the_end()
    rater.finish("a good study")
    session = rater.download()
    assert session.slot == 1 and session.finished_at and session.consent["adult"] is True
    assert session.attributes == {
        "culture": "粤",
        "native_languages": ["Cantonese", "English"],
        "comment": "a good study",
    }
    assert session.environment["headphones"] is True and session.environment["headphone_score"] == 6
    assert session.environment["screen_check"] == {"shown": 2, "seen": 2}
    trials = study.study.trials_of(1)
    assert [answer.trial for answer in session.answers] == [trial.id for trial in trials]
    _check_against_the_key(session, read_key(study.key), len(trials))
    assert rater.errors == []
    assert all(url.startswith((study.folder.as_uri(), "blob:", "data:")) for url in rater.asked), rater.asked


def test_two_raters_at_once_through_the_server(browser: Any, study: Exported, tmp_path: Path) -> None:
    with serving(study, tmp_path / "r.sqlite", invites={"class-7": 2}) as address:
        raters = [Rater(browser, study, address + "?invite=class-7", **options) for options in ({}, PHONE)]
        for rater in raters:
            rater.consent()
            rater.up_to_the_clips()
        while any(rater.in_clips() for rater in raters):
            for rater in raters:
                if rater.in_clips():
                    rater.rate()
                rater.page.locator("video, .page").first.wait_for()
                if not rater.in_clips() and not rater.page.locator("#comment").count():
                    rater.main()
                    rater.page.locator("video").wait_for()
        for rater in raters:
            rater.finish()
            rater.page.get_by_text("Your answers have arrived").wait_for()
            assert rater.errors == []
            assert all(url.startswith((address, "blob:", "data:")) for url in rater.asked)
        third = Rater(browser, study, address + "?invite=class-7")
        third.consent()
        assert "used up" in third.page.locator(".error").inner_text()
    sessions = collected_sessions(tmp_path / "r.sqlite", study.study)
    assert {session.slot for session in sessions} == {0, 1}
    for session in sessions:
        _check_against_the_key(session, read_key(study.key), len(study.study.trials_of(session.slot)))
        assert session.finished_at and session.attributes["culture"] == "粤"


def test_a_reload_loses_nothing(browser: Any, study: Exported) -> None:
    rater = Rater(browser, study, (study.folder / "index.html").as_uri() + "?participant=3")
    rater.consent()
    rater.up_to_the_clips()
    rater.rate()
    rater.main()
    rater.rate()
    rater.play()
    rater.page.keyboard.press("Space")  # once more
    rater.page.locator(".under .button", has_text="Pause the clip").wait_for()
    rater.page.locator(".under .button", has_text="Play again").wait_for()
    for score in "43":
        rater.page.keyboard.press(score)
    rater.page.reload()
    rater.page.locator(".told.now").wait_for()  # it was played: it need not be again
    assert rater.page.locator(".count").inner_text() == "Clip 2 of 8"
    assert rater.page.locator("input:checked").evaluate_all("(all) => all.map((one) => one.value)") == ["4", "3"]
    for score in "21":
        rater.page.keyboard.press(score)
    rater.page.keyboard.press("Enter")
    rater.to_the_end()
    rater.finish()
    session = rater.download()
    assert session.slot == 2 and len(session.answers) == len(study.study.trials_of(2))
    assert session.answers[2].scores == {"LS": 4, "IP": 3, "FBN": 2, "FCN": 1}
    assert session.answers[2].replays == 1 and session.answers[2].played_s > 1.5
    rater.page.reload()
    assert rater.page.locator("h1").inner_text() == "Thank you!"


def test_a_closed_window_is_taken_up_again(browser: Any, study: Exported) -> None:
    address = (study.folder / "index.html").as_uri() + "?participant=1"
    rater = Rater(browser, study, address)
    rater.consent()
    rater.up_to_the_clips()
    rater.rate()
    rater.main()
    rater.rate()
    rater.page.close()
    again = Rater(browser, study, address, context=rater.context)
    assert again.page.locator("h1").inner_text() == "Welcome back"
    assert "rated 1 of 8" in again.page.locator(".lead").inner_text()
    again.main()
    assert again.page.locator(".count").inner_text() == "Clip 2 of 8"
    other = Rater(browser, study, address, context=rater.context)  # a second window takes over, the first one says so
    other.main()
    again.page.get_by_text("Open in another window").wait_for()


def test_a_lost_connection_loses_no_answer(browser: Any, study: Exported, tmp_path: Path) -> None:
    results = tmp_path / "r.sqlite"
    with serving(study, results) as address:
        rater = Rater(browser, study, address)
        rater.consent()
        rater.up_to_the_clips()
        rater.page.get_by_text("Saved", exact=True).wait_for()
        rater.page.wait_for_timeout(500)  # the next clips are fetched ahead
        rater.context.set_offline(True)
        rater.rate()
        rater.main()
        rater.rate()
        rater.page.locator(".state.offline", has_text="No connection").wait_for()
        assert collected_sessions(results)[0].answers == ()
        rater.rate()
        rater.page.get_by_text("The clip will be fetched when it is back").wait_for()
        rater.context.set_offline(False)
        rater.page.locator(".play:visible").wait_for()
        rater.page.get_by_text("Saved", exact=True).wait_for()
        assert len(collected_sessions(results)[0].answers) == 3
        rater.to_the_end()
        rater.context.set_offline(True)
        rater.finish()
        rater.page.get_by_text("Please keep this page open").wait_for()
        rater.context.set_offline(False)
        rater.page.get_by_text("Your answers have arrived").wait_for()
    (session,) = collected_sessions(results)
    assert session.finished_at
    _check_against_the_key(session, read_key(study.key), len(study.study.trials_of(0)))


def test_a_personal_invitation_goes_on_in_another_browser(browser: Any, study: Exported, tmp_path: Path) -> None:
    with serving(study, tmp_path / "r.sqlite", invites={"personal": 1}) as address:
        rater = Rater(browser, study, address + "?invite=personal")
        rater.consent()
        rater.up_to_the_clips()
        rater.rate()
        rater.main()
        rater.rate()
        rater.page.get_by_text("Saved", exact=True).wait_for()
        elsewhere = Rater(browser, study, address + "?invite=personal", **PHONE)
        elsewhere.consent()
        elsewhere.page.locator("video").wait_for()
        assert elsewhere.page.locator(".count").inner_text() == "Clip 2 of 8"


def test_who_withdraws_is_deleted_on_the_server(browser: Any, study: Exported, tmp_path: Path) -> None:
    with serving(study, tmp_path / "r.sqlite") as address:
        rater = Rater(browser, study, address)
        rater.consent()
        rater.up_to_the_clips()
        rater.rate()
        rater.page.get_by_role("button", name="Pause", exact=True).click()
        rater.page.get_by_role("button", name="Withdraw").click()
        rater.page.get_by_role("button", name="Delete my answers").click()
        rater.page.get_by_text("Your answers are deleted").wait_for()
        assert collected_sessions(tmp_path / "r.sqlite") == []
        assert rater.page.evaluate("() => Object.keys(localStorage).length") == 0


def test_a_clip_is_not_rated_before_its_end(browser: Any, study: Exported) -> None:
    rater = Rater(browser, study, (study.folder / "index.html").as_uri() + "?participant=1")
    rater.consent()
    rater.up_to_the_clips()
    page = rater.page
    assert page.locator(".marks input:enabled").count() == 0
    page.keyboard.press("5")
    page.locator("form .button.main").click(force=True)
    assert page.locator("input:checked").count() == 0 and page.locator(".told.now").count() == 0
    page.evaluate("""() => document.querySelector("video").addEventListener(
        "playing", () => document.querySelector(".under .button").click(), { once: true })""")  # a press as soon as it plays
    page.evaluate("() => { document.querySelector('video').currentTime = 0.79 }")
    page.wait_for_timeout(300)
    assert page.evaluate("() => document.querySelector('video').currentTime") == 0  # no way around it
    page.locator(".under .button").focus()
    page.keyboard.press("Space")
    page.locator(".under .button", has_text=re.compile("Go on playing|Play again")).wait_for()  # the clip is short
    page.evaluate("() => { document.querySelector('video').playbackRate = 16 }")
    assert (
        page.evaluate(
            "() => new Promise((go) => setTimeout(() => go(document.querySelector('video').playbackRate), 200))"
        )
        == 1
    )
    page.keyboard.press("Space")
    page.locator(".told.now").wait_for()
    for score in "12":
        page.keyboard.press(score)
    page.locator("form .button.main").click(force=True)
    assert page.locator(".panel .error").inner_text() == "Still to be answered: Body, Face"
    assert page.evaluate("() => document.activeElement.dataset.scale") == "FBN"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # arrows move within a scale, as in any group of choices
    assert page.locator("input[name=FBN]:checked").get_attribute("value") == "2"
    page.locator("input[name=FCN]").nth(4).check(force=True)
    page.locator("form .button.main").click(force=True)
    page.locator("h1", has_text="That was the practice").wait_for()


@pytest.mark.parametrize("language", ["en", "zh", "ar"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_every_screen_fits_and_can_be_read(browser: Any, study: Exported, language: str, device: str) -> None:
    locale = {"en": "en-GB", "zh": "zh-CN", "ar": "ar"}[language]
    address = (study.folder / "index.html").as_uri() + "?participant=1"
    rater = Rater(
        browser, study, address, locale=locale, reduced_motion="reduce", **(PHONE if device == "phone" else {})
    )
    page = rater.page
    assert page.evaluate("() => [document.documentElement.lang, document.documentElement.dir]") == [
        language,
        "rtl" if language == "ar" else "ltr",
    ]
    _check_screen(page)
    rater.consent()
    _check_screen(page)
    rater.main()
    _check_screen(page)
    page.locator("section .button").first.click()
    for _ in range(6):
        page.locator(".choices .button:enabled").last.click()  # never the quietest: not headphones
    _check_screen(page)
    page.locator("section .button:visible").last.click()
    _check_screen(page)
    page.locator(".choices .button").first.click()
    _check_screen(page)
    rater.main()
    rater.play()
    _check_screen(page)
    for score in "432":
        page.keyboard.press(score)
    page.keyboard.press("Enter")  # one is missing
    _check_screen(page)
    page.locator(".portrait").click()
    page.locator("dialog img").wait_for()
    page.keyboard.press("Escape")
    page.locator(".bar .button").click()
    page.locator("dialog").wait_for()
    _check_screen(page)


def test_the_language_changes_in_the_middle_of_a_rating(browser: Any, study: Exported) -> None:
    rater = Rater(browser, study, (study.folder / "index.html").as_uri() + "?participant=4")
    rater.consent()
    rater.up_to_the_clips()
    rater.play()
    rater.page.keyboard.press("4")
    rater.page.locator(".bar select").select_option("ar")
    assert rater.page.locator(".told").inner_text() == "انتهى المقطع. يُرجى تقييمه."
    assert rater.page.evaluate("() => document.documentElement.dir") == "rtl"
    assert rater.page.locator("input:checked").count() == 1
    boxes = [rater.page.locator(".mark").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["x"] > boxes[1]["x"]  # from right to left
    rater.page.reload()
    assert rater.page.evaluate("() => document.documentElement.lang") == "ar"


def _check_screen(page: Any) -> None:
    """No sideways scrolling, text with contrast, names for all that can be operated, targets that a finger hits."""
    page.wait_for_timeout(100)
    report = page.evaluate(Path(__file__).with_name("inspect_page.js").read_text(encoding="utf-8"))
    assert report["overflow"] <= 0, report
    assert report["faint"] == [] and report["nameless"] == [] and report["small"] == [], report
    assert report["headings"] >= 1 or report["clips"] == 1, report
    assert report["moving"] == [], report
