"""What is asked of a vision-language model, and how its answers are read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avatar.errors import AvatarError

PROMPT_VERSION = "1"
# MAGI-1 (arXiv 2505.13211, section 3) folds its last filter into the caption call; so do we.
QUESTIONS = {
    "watermark": "a watermark or a channel logo",
    "text_overlay": "subtitles, captions or other text laid over the picture",
    "multiple_shots": "a cut, a dissolve or another change of shot",
    "screen_in_screen": "a picture in the picture, such as a screen, a video call or an inset",
    "still_photo": "a still photo instead of a moving person",
    "heavy_filter": "a heavy beauty, colour or face filter",
    "minor_visible": "a person who may be under 18",
    "lips_occluded": "lips covered by a hand, a microphone, a mask or the picture's edge",
}
ANSWERS = ("yes", "no", "unsure")

PART = """This is a crop of one frame of a video: {part} of a person. Describe only what can be seen of this person: face, hair,
glasses, clothing, pose. Two sentences at most. Do not name the person, and do not guess what cannot be seen."""
OBJECT = """This is one frame of a video in which everything but one person has been painted grey. Describe this person: face,
hair, glasses, clothing, pose, what they hold. Three sentences at most. Do not name the person, and do not guess what
cannot be seen."""
CHECK = """Two descriptions of the same person, written from two pictures:

A: {first}
B: {second}

Do they contradict each other (another colour, another garment, another hair, glasses in one and none in the other)? One
that says less than the other is no contradiction. Answer with JSON alone: {{"consistent": true or false, "conflicts":
["each contradiction in a few words"]}}"""
SCENE = """In this frame of a video one person is outlined in yellow; the outline was added, it is not in the scene. The person:
{object}
Describe where they are and how they relate to what is around them. Three sentences at most."""
VIDEO = """These are {count} frames of one video, evenly spaced and in order.{outline}
{scene}
First answer for each whether the video shows it: yes, no or unsure.
{questions}
Then describe in at most four sentences what moves and what the person does: speech, expression, head, hands, camera.
Answer with JSON alone: {{"flags": {{{keys}}}, "caption": "..."}}"""
OUTLINE = " One person is outlined in yellow; the outline was added."
CONFLICTS_NAMED = (
    "\n\nAn earlier description was doubtful about: {conflicts}. Look closely at these, and say only what is certain."
)


class AnswerError(AvatarError):
    """A model's answer is not what was asked for."""


@dataclass(frozen=True)
class Verdict:
    """Whether two descriptions agree.

    Attributes:
        is_consistent: they do.
        conflicts: where they do not, in a few words each.
    """

    is_consistent: bool
    conflicts: tuple[str, ...]


def video_prompt(count: int, scene: str | None, has_outline: bool) -> str:
    """The last call: filter questions, and what happens."""
    return VIDEO.format(
        count=count,
        outline=OUTLINE if has_outline else "",
        scene=f"The scene: {scene}\n" if scene else "",
        questions="\n".join(f"- {name}: {words}" for name, words in QUESTIONS.items()),
        keys=", ".join(f'"{name}": "..."' for name in QUESTIONS),
    )


def read_text(answer: str) -> str:
    """A description: blanks folded, quotes and fences about it taken off.

    Raises:
        AnswerError: it is empty.
    """
    text = re.sub(r"\s+", " ", answer.strip().strip("`").strip()).strip('"')
    if not text:
        raise AnswerError("the model answered nothing; a description was asked for")
    return text


def read_verdict(answer: str) -> Verdict:
    """The judge's JSON.

    Raises:
        AnswerError: it is not that JSON.
    """
    values = _json(answer)
    conflicts = values.get("conflicts") or []
    if not isinstance(values.get("consistent"), bool) or not isinstance(conflicts, list):
        raise AnswerError(
            f'the judge answered {answer[:200]!r}; {{"consistent": true or false, "conflicts": [...]}} was asked for'
        )
    return Verdict(values["consistent"], tuple(str(one) for one in conflicts))


def read_video(answer: str) -> tuple[str, dict[str, str]]:
    """The caption and the flags of the last call; a question left out counts as unsure.

    Raises:
        AnswerError: it is not that JSON, or a flag has another value.
    """
    values = _json(answer)
    flags, caption = values.get("flags"), values.get("caption")
    if not isinstance(flags, dict) or not isinstance(caption, str):
        raise AnswerError(f"the model answered {answer[:200]!r}; JSON with flags and caption was asked for")
    read = {name: _flag(flags.get(name, "unsure")) for name in QUESTIONS}
    bad = [name for name, value in read.items() if value not in ANSWERS]
    if bad:
        raise AnswerError(f"the model answered {flags[bad[0]]!r} to {bad[0]}; accepted: {', '.join(ANSWERS)}")
    return read_text(caption), read


def named(conflicts: Sequence[str]) -> str:
    """What is added to a prompt that is asked again."""
    return CONFLICTS_NAMED.format(conflicts="; ".join(conflicts)) if conflicts else ""


def _flag(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip().strip(".").lower()


def _json(answer: str) -> dict[str, Any]:
    """The first JSON object in an answer, whatever stands around it."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", answer):
        try:
            value, _ = decoder.raw_decode(answer, match.start())
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise AnswerError(f"the model answered {answer[:200]!r}; JSON was asked for")
