"""A design to opaque names: what the folder says of it, and what only the key does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from avatar.study.design import Design, Shown, session_minutes
from avatar.study.formats import Key, KeyClip, Study, Trial, dump_json
from avatar.study.spec import StudySpec

_NAME_DIGITS = 16


@dataclass(frozen=True)
class Namer:
    """Names that nobody can make or undo without the salt."""

    salt: bytes

    def __call__(self, *words: object) -> str:
        text = "\0".join(map(str, words)).encode()
        return hmac.new(self.salt, text, hashlib.sha256).hexdigest()[:_NAME_DIGITS]


def original_of(shown: Shown) -> Shown:
    """The clip that a repeat or a practice is a copy of; traps are clips of their own."""
    return shown if shown.kind == "trap" else Shown(shown.system, shown.item)


def blind(spec: StudySpec, design: Design, durations_s: Mapping[str, float], namer: Namer) -> tuple[Study, Key]:
    """Names every clip, portrait and trial.

    Args:
        spec: the study file.
        design: who sees what.
        durations_s: length of the clips by item.
        namer: makes the names.
    """
    portraits = {item.id: f"media/{namer('portrait', item.id)}.jpg" for item in spec.items if item.portrait is not None}
    real = spec.real.name if spec.real else None
    clips: dict[str, KeyClip] = {}
    trials: dict[str, str] = {}

    def trial(shown: Shown, *place: object) -> Trial:
        clip = f"media/{namer('clip', shown)}.mp4"
        kind = ("real" if shown.system == real else "generated") if shown.kind == "rated" else shown.kind
        repeats = f"media/{namer('clip', original_of(shown))}.mp4" if shown.kind == "repeat" else None
        clips[clip] = KeyClip(shown.system, shown.item, kind, shown.trap, repeats)
        name = "t" + namer("trial", *place)
        trials[name] = clip
        return Trial(name, clip, portraits.get(shown.item), durations_s[shown.item])

    practice = tuple(trial(shown, "practice", place) for place, shown in enumerate(design.practice))
    slots = tuple(
        tuple(trial(shown, slot, place) for place, shown in enumerate(sequence))
        for slot, sequence in enumerate(design.slots)
    )
    minutes = [session_minutes([one.duration_s for one in practice + slot], len(spec.scales)) for slot in slots]
    study = Study(
        id=namer("study"),
        version="",
        title=spec.title,
        about=spec.about,
        contact=spec.contact,
        pay=spec.pay,
        data_until=spec.data_until,
        languages=spec.languages,
        scales=spec.scales,
        ask=spec.ask,
        minutes=round(max(minutes)),
        practice=practice,
        slots=slots,
    )
    study = replace(study, version=hashlib.sha256(dump_json(study.to_json()).encode()).hexdigest()[:_NAME_DIGITS])
    key = Key(
        study_id=study.id,
        study_version=study.version,
        seed=spec.seed,
        salt=namer.salt.hex(),
        systems={system.name: system.title for system in spec.systems},
        real=real,
        items={item.id: {"language": item.language, "groups": item.groups} for item in spec.items},
        clips=dict(sorted(clips.items())),
        trials=dict(sorted(trials.items())),
    )
    return study, key
