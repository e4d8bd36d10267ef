"""A clip in another look, the same throughout: other colours, painted, drawn, or by a diffusers image-to-image model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from avatar.errors import MissingDependencyError, OptionError

Restyle = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 to the same
STYLES = ("colours", "painted", "drawn", "grey")
_LEVELS = 10  # of brightness in a drawing
_MOST_SHIFT = np.array([10.0, 6.0, 6.0])  # of the mean of L, a and b: another light, not another skin
_MOST_GAIN = 1.3


@dataclass(frozen=True)
class ColourStatistics:
    """Mean and spread of a picture's colours in CIE Lab, (3,) each."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> ColourStatistics:
        """Of a picture (H, W, 3) uint8."""
        pixels = _to_lab(image).reshape(-1, 3)
        return cls(pixels.mean(axis=0), pixels.std(axis=0))


def colour_transfer(own: ColourStatistics, target: ColourStatistics, strength: float = 1.0) -> Restyle:
    """Gives pictures another's colours, within what another lamp or camera would do: a face keeps its complexion, and its label.

    Args:
        own: of the clip, or of its first frame: fixed, so that the look does not flicker.
        target: of the picture whose colours are wanted.
        strength: 0 changes nothing.

    Source: E. Reinhard et al., "Color Transfer between Images", IEEE CG&A 2001, in Lab.
    """
    gain = (1 + strength * (target.std / np.maximum(own.std, 1.0) - 1)).clip(1 / _MOST_GAIN, _MOST_GAIN)
    middle = own.mean + (strength * (target.mean - own.mean)).clip(-_MOST_SHIFT, _MOST_SHIFT)

    def restyle(image: np.ndarray) -> np.ndarray:
        return _from_lab((_to_lab(image) - own.mean) * gain + middle)

    return restyle


def painted(image: np.ndarray) -> np.ndarray:
    """Flat areas with their edges kept, in fuller colours.

    No lines are drawn: OpenCV's `stylization`, the same filter with lines, crosses faces with them and blackens eyes.

    Source: E. Gastal and M. Oliveira, "Domain Transform for Edge-Aware Image and Video Processing", SIGGRAPH 2011.
    """
    lab = _to_lab(cv2.edgePreservingFilter(image, flags=cv2.NORMCONV_FILTER, sigma_s=15, sigma_r=0.25))
    lab[..., 1:] *= 1.2
    return _from_lab(lab)


def drawn(image: np.ndarray) -> np.ndarray:
    """Few levels of brightness and dark lines (H. Winnemöller et al., "Real-Time Video Abstraction", 2006)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    for _ in range(3):
        lab = cv2.bilateralFilter(lab, 7, 18, 5)
    light = lab[..., 0].astype(np.float32)
    step = 255 / _LEVELS
    place = light / step
    soft = np.floor(place) + 0.5 + 0.5 * np.tanh(4 * (place - np.floor(place) - 0.5))  # hard steps would flicker
    smooth = cv2.GaussianBlur(light, (0, 0), 1.0)
    edges = 1 + np.tanh(0.35 * np.minimum(smooth - 0.985 * cv2.GaussianBlur(light, (0, 0), 1.6) - 1.5, 0))
    lab[..., 0] = np.clip(soft * step * np.clip(edges, 0.25, 1.0), 0, 255).astype(np.uint8)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def grey(image: np.ndarray) -> np.ndarray:
    """Without colour."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


FILTERS: dict[str, Restyle] = {"painted": painted, "drawn": drawn, "grey": grey}


def random_style(
    rng: np.random.Generator, first: np.ndarray, others: Callable[[np.random.Generator], np.ndarray]
) -> tuple[str, Restyle]:
    """A style for one clip.

    Args:
        rng: source of chance.
        first: a frame of the clip.
        others: gives a picture whose colours may be taken.

    Returns:
        Its name, for the column `style`, and what makes a frame of it.
    """
    name = STYLES[rng.choice(len(STYLES), p=(0.55, 0.2, 0.15, 0.1))]
    if name == "colours":
        return name, colour_transfer(
            ColourStatistics.of(first), ColourStatistics.of(others(rng)), rng.uniform(0.5, 1.0)
        )
    return name, FILTERS[name]


def image_to_image(model: str, prompt: str, strength: float = 0.35, seed: int = 0, device: str = "cpu") -> Restyle:
    """A style by a diffusers image-to-image model, with the same noise for every frame of a clip.

    Args:
        model: folder or hub name of a pipeline that `AutoPipelineForImage2Image` reads.
        prompt: the look.
        strength: how much of a frame is made anew; above about 0.4 faces change, which the guard then drops.
        seed: of the noise.
        device: where it runs.

    Raises:
        OptionError: a strength out of range.
        MissingDependencyError: the model is not there.
    """
    if not 0 < strength <= 1:
        raise OptionError(f"the strength of a style must lie between 0 and 1, not {strength}")
    import torch
    from diffusers import AutoPipelineForImage2Image
    from PIL import Image

    try:
        pipeline: Any = AutoPipelineForImage2Image.from_pretrained(model).to(device)
    except OSError as err:
        raise MissingDependencyError(f"the image-to-image model {model!r} is not there: {err}") from err
    pipeline.set_progress_bar_config(disable=True)

    def restyle(image: np.ndarray) -> np.ndarray:
        generator = torch.Generator(device).manual_seed(seed)
        made = pipeline(prompt=prompt, image=Image.fromarray(image), strength=strength, generator=generator).images[0]
        return np.asarray(made.convert("RGB").resize((image.shape[1], image.shape[0])))

    return restyle


def _to_lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _from_lab(lab: np.ndarray) -> np.ndarray:
    return (cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1) * 255).round().astype(np.uint8)
