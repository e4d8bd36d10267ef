"""The phone inventory, and how IPA is read."""

from __future__ import annotations

import pytest

from avatar.data.synthetic.phones import (
    _IPA_ALIASES,
    CHANNELS,
    PHONE_INDEX,
    PHONE_NAMES,
    PHONES,
    RADIO_PHONES,
    RUSSIAN_PHONES,
    phones_of_ipa,
)


def _names(symbols: str) -> list[str]:
    return [PHONE_NAMES[index] for index in phones_of_ipa(symbols)]


@pytest.mark.parametrize(
    ("symbols", "names"),
    [
        ("aɪ", ["a", "ɪ"]),  # a diphthong is two
        ("ˈɛ", ["ɛ"]),  # stress
        ("iː", ["i"]),  # length
        ("t͡ʃ", ["tʃ"]),  # tie
        ("tʃ", ["tʃ"]),
        ("ts", ["s"]),
        ("pʼ", ["p"]),  # ejective
        ("kʰ", ["k"]),
        ("n̩", ["n"]),
        ("ɑ̃", ["ɑ"]),
        ("ã", ["a"]),  # composed
        ("ç", ["x"]),  # composed: the cedilla is no mark to drop
        ("c\u0327", ["x"]),
        ("c", ["k"]),
        ("a˥˩", ["a"]),  # tone
        ("hɛˈloʊ", ["h", "ɛ", "l", "o", "ʊ"]),
        ("_:", []),
        ("", []),
        ("☃", []),  # unknown
        ("p☃b", ["p", "b"]),
    ],
)
def test_ipa_is_read(symbols: str, names: list[str]) -> None:
    assert _names(symbols) == names


def test_every_alias_leads_to_a_class() -> None:
    for symbol, name in _IPA_ALIASES.items():
        assert name in PHONE_INDEX, symbol
        assert _names(symbol) == [name], symbol


@pytest.mark.parametrize("table", [RADIO_PHONES, RUSSIAN_PHONES], ids=["radio", "russian"])
def test_every_engine_phone_is_understood(table: dict[str, str]) -> None:
    for name, ipa in table.items():
        assert bool(phones_of_ipa(ipa)) == bool(ipa), name


def test_every_phone_has_one_target_and_one_dominance_per_channel() -> None:
    assert len(set(PHONE_NAMES)) == len(PHONES)
    for phone in PHONES:
        assert len(phone.target) == len(phone.dominance) == len(CHANNELS), phone.name
        assert all(0 <= x <= 1 for x in phone.target), phone.name
        assert all(x > 0 for x in phone.dominance), phone.name


def test_lips_do_what_phonetics_says() -> None:
    targets = {phone.name: dict(zip(CHANNELS, phone.target, strict=True)) for phone in PHONES}
    assert all(targets[name]["close"] == 1 for name in "pbm")
    assert all(targets[name]["tuck"] == 1 for name in "fv")
    assert sum(target["close"] for target in targets.values()) == 3
    assert targets["u"]["pucker"] > 0.5 > targets["i"]["pucker"]
    assert targets["ɑ"]["jaw"] > targets["e"]["jaw"] > targets["i"]["jaw"]
    assert not any(targets["sil"].values())
