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
_MOST_SHIFT = np.array([8.0, 3.0, 6.0])  # of the mean of L, a and b: another light, not another skin; a is green to red
_MOST_GAIN = np.array([1.15, 1.12, 1.12])  # faces lie far from the mean of a dark picture
_BRUSH = 1 / 45  # of the width of a face; twice as much closes eyes
_SECTORS = 8  # of a brush
_PEN = 1 / 200  # of the width of a face
_LEVELS = 8  # of brightness in a drawing
_DARKEST_LINE = 0.35


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


def painted(face_px: float) -> Restyle:
    """Strokes of a brush that stops at edges, in fuller colours.

    Of every place the calmest of eight directions is taken, so that eyes, teeth and folds stay as sharp as they were. OpenCV's
    edge-preserving filter melts them, its `stylization` crosses faces with lines.

    Args:
        face_px: width of the face, which the brush goes by.

    Source: G. Papari et al., "Artistic Edge and Corner Enhancing Smoothing", IEEE TIP 2007; the weights of J. E. Kyprianidis et
    al., "Image and Video Abstraction by Anisotropic Kuwahara Filtering", 2009, eq. 7.
    """
    sectors = _brush(max(2.0, _BRUSH * face_px))

    def restyle(image: np.ndarray) -> np.ndarray:
        lab = _to_lab(_stroked(image, sectors))
        lab[..., 1:] *= 1.15
        return _from_lab(lab)

    return restyle


def drawn(face_px: float) -> Restyle:
    """Fewer levels of brightness and dark lines, on what `painted` leaves.

    Args:
        face_px: width of the face, which brush and pen go by.

    Source: H. Winnemöller et al., "Real-Time Video Abstraction", 2006; lines smoothed along their course as in H. Kang et al.,
    "Coherent Line Drawing", 2007, or hair falls to dashes that flicker.
    """
    sectors, pen = _brush(max(2.0, _BRUSH * face_px)), max(0.8, _PEN * face_px)

    def restyle(image: np.ndarray) -> np.ndarray:
        lab = _to_lab(_stroked(image, sectors))
        light = np.ascontiguousarray(lab[..., 0])
        dark = _along_edges(
            cv2.GaussianBlur(light, (0, 0), pen) - cv2.GaussianBlur(light, (0, 0), 1.6 * pen), light, pen
        )
        lines = 1 + np.tanh(0.35 * np.minimum(dark + 0.5, 0))
        step = 100 / _LEVELS
        place = light / step - np.floor(light / step) - 0.5
        flat = step * (np.floor(light / step) + 0.5 + 0.5 * np.tanh(3 * place))  # hard steps would flicker
        lab[..., 0] = (0.6 * light + 0.4 * flat) * np.clip(lines, _DARKEST_LINE, 1)
        lab[..., 1:] *= 1.15
        return _from_lab(lab)

    return restyle


def _brush(radius: float) -> list[np.ndarray]:
    """Weights of the directions that a stroke may come from, overlapping, each with a sum of 1."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    sectors = []
    for k in range(_SECTORS):
        towards = np.clip(np.cos(angle - 2 * np.pi * k / _SECTORS), 0, None) ** 4
        weights = np.exp(-2 * (distance / radius) ** 2) * towards * (distance <= radius)
        weights[reach, reach] = weights.max()
        sectors.append((weights / weights.sum()).astype(np.float32))
    return sectors


def _stroked(image: np.ndarray, sectors: list[np.ndarray]) -> np.ndarray:
    """Mean over the directions, the calm ones counting by far the most."""
    pixels = image.astype(np.float32)
    light = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    stack = np.dstack([pixels, light, light**2])
    total, weights = np.zeros_like(pixels), np.zeros_like(light)
    for sector in sectors:
        means = cv2.filter2D(stack, -1, sector, borderType=cv2.BORDER_REFLECT)
        spread = np.sqrt(np.maximum(means[..., 4] - means[..., 3] ** 2, 0))
        weight = (1 + spread / 4) ** -8
        total += weight[..., None] * means[..., :3]
        weights += weight
    return (total / weights[..., None]).round().clip(0, 255).astype(np.uint8)


def _along_edges(values: np.ndarray, light: np.ndarray, pen: float) -> np.ndarray:
    """Values (H, W) averaged along the edges of `light`, four widths of the pen both ways."""
    x_slope, y_slope = cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)
    xx, xy, yy = (cv2.GaussianBlur(product, (0, 0), 2 * pen) for product in (x_slope**2, x_slope * y_slope, y_slope**2))
    across = 0.5 * np.arctan2(2 * xy, xx - yy)
    x_step, y_step = -np.sin(across) * np.float32(pen), np.cos(across) * np.float32(pen)
    y, x = np.indices(light.shape, np.float32)
    shares = np.exp(-0.5 * (np.arange(-4, 5, dtype=np.float32) / 2) ** 2)
    total = np.zeros_like(values)
    for k, share in zip(range(-4, 5), shares / shares.sum(), strict=True):
        moved = cv2.remap(values, x + k * x_step, y + k * y_step, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        total += share * moved
    return total


def grey(image: np.ndarray) -> np.ndarray:
    """Without colour."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


FILTERS: dict[str, Callable[[float], Restyle]] = {"painted": painted, "drawn": drawn, "grey": lambda face_px: grey}


def random_style(
    rng: np.random.Generator,
    first: np.ndarray,
    face_px: float,
    others: Callable[[np.random.Generator], np.ndarray],
) -> tuple[str, Restyle]:
    """A style for one clip.

    Args:
        rng: source of chance.
        first: a frame of the clip.
        face_px: width of its face.
        others: gives a picture whose colours may be taken.

    Returns:
        Its name, for the column `style`, and what makes a frame of it.
    """
    name = STYLES[rng.choice(len(STYLES), p=(0.55, 0.2, 0.15, 0.1))]
    if name == "colours":
        return name, colour_transfer(
            ColourStatistics.of(first), ColourStatistics.of(others(rng)), rng.uniform(0.5, 1.0)
        )
    return name, FILTERS[name](face_px)


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
