"""Somebody at the rating page in a headless browser, for the tests: gives consent, looks at clips, rates what they see."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from avatar.media import read_video
from avatar.study.export import Exported
from avatar.study.results import Session, session_from_json
from avatar.study.server import Limits, create_app

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
SCORES = {"still": (1, 2, 1, 2), "real": (5, 4, 5, 5), "noisy": (2, 1, 3, 1)}  # LS, IP, FBN, FCN
# The listening test waits for its tones; here they take no time, and the first is always the quietest. The hashes of what is
# played tell which file it came from.
HASTE = """
Math.random = () => 0;
const wait = window.setTimeout;
window.setTimeout = (act, ms, ...more) => wait(act, document.querySelector(".choices") ? Math.min(ms ?? 0, 20) : ms, ...more);
window.played = {};
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => {
  const address = make(blob);
  blob.arrayBuffer().then((bytes) => crypto.subtle.digest("SHA-256", bytes)).then((hash) => {
    window.played[address] = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
  });
  return address;
};
"""


@contextmanager
def serving(study: Exported, results: Path, **options: Any) -> Iterator[str]:
    import uvicorn

    from avatar.study.server.run import config_for

    app = create_app(study.folder, results, limits=Limits(joins_per_min=1e6), **options)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config_for(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)


@cache
def look(clip: Path) -> str:
    """Which of the three kinds of pictures a clip shows."""
    frames = np.stack(list(read_video(clip))).astype(np.float32)
    frames -= frames.mean()
    first, second = frames[2], frames[3]

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))

    if alike(first, second) > 0.95:
        return "still"
    shifted = max(alike(np.roll(first, step, axis=1), second) for step in range(1, 4))
    return "real" if shifted > 0.6 else "noisy"


class Rater:
    """Somebody at the page."""

    def __init__(self, browser: Any, study: Exported, address: str, context: Any = None, **options: Any) -> None:
        self.study, self.address = study, address
        self.context = context or browser.new_context(locale=options.pop("locale", "en-GB"), **options)
        self.context.set_default_timeout(60_000)
        self.context.add_init_script(HASTE)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def main(self) -> None:
        self.page.locator("main .button.main:visible").click()

    def consent(self, **fields: str) -> None:
        self.page.locator("#adult").check()
        self.page.locator("#agreed").check()
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)
        self.main()

    def up_to_the_clips(self) -> None:
        self.page.locator("#culture").fill("粤")
        self.page.locator("#natives").fill("Cantonese, English")
        self.main()
        self.page.locator("section .button").first.click()
        for _ in range(6):
            self.page.locator(".choices .button:enabled").first.click()
        self.main()  # passed: the first tone was the quietest each time
        self.page.locator(".choices .button").nth(2).click()
        self.main()
        self.page.locator(".play:visible").wait_for()

    def clip(self) -> Path:
        """The exported file that is in the player."""
        source = self.page.evaluate("() => document.querySelector('video').currentSrc")
        if source.startswith("file:"):
            return self.study.folder / "media" / source.rpartition("/")[2]
        deadline = time.monotonic() + 30
        while (hash_ := self.page.evaluate("(address) => window.played[address]", source)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return _by_hash(self.study.folder)[hash_]

    def play(self) -> None:
        self.page.locator(".play:visible").wait_for()
        self.page.locator(".under .button").focus()
        self.page.keyboard.press("Space")
        self.page.locator(".told.now").wait_for()

    def rate(self) -> None:
        """Plays the clip, looks, and answers on the keyboard."""
        self.play()
        for score in SCORES[look(self.clip())]:
            self.page.keyboard.press(str(score))
        self.page.keyboard.press("Enter")
        self.page.wait_for_timeout(50)

    def in_clips(self) -> bool:
        return self.page.locator("video").count() > 0

    def to_the_end(self) -> None:
        while not self.page.locator("#comment").count():
            if self.in_clips():
                self.rate()
            else:
                self.main()
            self.page.locator("video, .page").first.wait_for()

    def finish(self, comment: str = "") -> None:
        self.page.locator("#comment").fill(comment)
        self.main()

    def download(self) -> Session:
        with self.page.expect_download() as saved:
            self.page.locator("main .button", has_text="Save").first.click()
        return session_from_json(json.loads(Path(saved.value.path()).read_text()), self.study.study)


@cache
def _by_hash(folder: Path) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in (folder / "media").iterdir()}
