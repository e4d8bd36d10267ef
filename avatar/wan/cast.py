"""Who speaks in a picture, and where in the video that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar.codec.wan import WanCodec
from avatar.errors import OptionError
from avatar.identity.choose import check_distinct, load_portrait
from avatar.identity.mask import drawn_masks, drawn_place
from avatar.media import read_picture
from avatar.types import FaceChoice, Picture, Portrait
from avatar.wan.options import Masks


@dataclass(frozen=True)
class Cast:
    """The speakers of a video.

    Attributes:
        image: (H, W, 3) uint8, the picture they are all in.
        count: how many.
        people: their faces; none where drawn masks say where they are and nobody asks for faces.
        drawn: a mask picture of each, or None.
        strict: whether a speaker's sound acts within that one's mask alone, whatever the system was made for.
    """

    image: np.ndarray
    count: int
    people: tuple[Portrait, ...]
    drawn: tuple[str | Path | np.ndarray, ...] | None
    strict: bool

    def masks(self, codec: WanCodec, size: tuple[int, int]) -> Tensor:
        """Where each speaker is in a video of (height, width) px, (S, h, w) in [0, 1] on the token grid.

        Raises:
            OptionError: a drawn mask cannot be meant.
        """
        if self.drawn is None:
            return codec.face_mask(1, self.people, size)[:, 0]
        height, width = self.image.shape[:2]
        return torch.from_numpy(drawn_masks(self.drawn, (height, width), codec.token_grid(size)))


def cast_speakers(portrait: Picture, choices: Sequence[FaceChoice], masks: Masks | None, faces_needed: bool) -> Cast:
    """Finds the speakers.

    Args:
        portrait: the picture.
        choices: which face, one for each speaker; None with drawn masks.
        masks: see `WanOptions`.
        faces_needed: whether faces are wanted even where drawn masks say where people are; then those inside the masks.

    Raises:
        OptionError: not as many masks as speakers, a face chosen beside a drawn mask, or one face for two speakers.
        MediaError, FaceError: a picture cannot be used.
    """
    if isinstance(masks, str) and masks != "faces":
        raise OptionError(f"masks are one picture per speaker, or 'faces', not {masks!r}")
    drawn = None if masks is None or isinstance(masks, str) else tuple(masks)
    if drawn is not None and len(drawn) != len(choices):
        raise OptionError(f"there are {len(choices)} speakers and {len(drawn)} masks; each speaker needs one")
    for number, choice in enumerate(choices, start=1):
        if drawn is not None and choice is not None:
            raise OptionError(f"a drawn mask says where speaker {number} is; leave the face {choice!r} out (None)")
    found: list[Portrait] = []
    if drawn is not None:
        image = _image(portrait)
        if faces_needed:
            size = (image.shape[0], image.shape[1])
            places = [drawn_place(mask, number, size) for number, mask in enumerate(drawn, start=1)]
            found = [load_portrait(image, place) for place in places]
    else:
        found = [load_portrait(portrait, choice) for choice in choices]
        image = found[0].image
    check_distinct([person.face for person in found])
    return Cast(image, len(choices), tuple(found), drawn, strict=masks is not None)


def _image(portrait: Picture) -> np.ndarray:
    if isinstance(portrait, Portrait):
        return portrait.image
    return portrait if isinstance(portrait, np.ndarray) else read_picture(portrait)
