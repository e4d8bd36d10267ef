"""What the card of a published model says of its licence, where the card is at hand: in the model's folder or the hub's cache."""

from __future__ import annotations

import re
from pathlib import Path

from avatar.data.scorer import WeightSpec

UNKNOWN = "see the model's card"
_CARD = "README.md"
# "cc-by-nc-4.0", "PolyForm-Noncommercial", "for research purposes only"; not "ncsa"
_FORBIDS_BUSINESS = re.compile(r"(^|[-_ ])nc([-_ ]|$)|non[-_ ]?commercial|research", re.IGNORECASE)


def named_weights(what: str, model: str) -> WeightSpec:
    """The weights of a model that the configuration names, with the licence of its card.

    Args:
        what: what they are.
        model: hub id or folder.
    """
    license = card_license(model)
    return WeightSpec(what, model, license or UNKNOWN, is_noncommercial=forbids_business(license or ""))


def forbids_business(license: str) -> bool:
    """Whether the words of a licence allow non-commercial use, or research, only."""
    return bool(_FORBIDS_BUSINESS.search(license))


def card_license(model: str) -> str | None:
    """`license` and `license_name` of the card's front matter; None where there is no card, or nothing is said."""
    path = _card(model)
    if path is None:
        return None
    head = re.match(r"---\s*\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    said = re.findall(r"^license(?:_name)?:[ \t]*[\"']?([^\"'\n]+)", head[1] if head else "", re.MULTILINE)
    words = ", ".join(word.strip() for word in said if word.strip() != "other")
    return words or None


def _card(model: str) -> Path | None:
    folder = Path(model)
    if folder.is_dir():
        return folder / _CARD if (folder / _CARD).is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, _CARD)
    except HFValidationError:  # a path that is not there
        return None
    return Path(cached) if isinstance(cached, str) else None
