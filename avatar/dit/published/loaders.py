"""Which loader belongs to which published system."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from avatar.dit.published import echomimic_flash, echomimic_preview, fantasytalking, multitalk, omniavatar, stableavatar
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.presets import INFINITETALK, INFINITETALK_MULTI, OMNIAVATAR_1_3B

LOADERS: dict[str, Callable[..., PublishedAdapter]] = {
    "fantasytalking": fantasytalking.load,
    "echomimic-v3": echomimic_preview.load,
    "echomimic-v3-flash": echomimic_flash.load,
    "multitalk": multitalk.load,
    "infinitetalk": partial(multitalk.load, preset=INFINITETALK),
    "infinitetalk-multi": partial(multitalk.load, preset=INFINITETALK_MULTI),
    "omniavatar-14b": omniavatar.load,
    "omniavatar-1.3b": partial(omniavatar.load, preset=OMNIAVATAR_1_3B),
    "stableavatar": stableavatar.load,
}
