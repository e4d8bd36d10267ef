"""Picture files to upright (H, W, 3) uint8 sRGB arrays, and arrays to picture files (Pillow)."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from avatar.errors import MediaError, OptionError, OutputError
from avatar.media.files import check_file, describe_content
from avatar.media.output import check_output, staged

ACCEPTED_PICTURES = "jpg, png, webp (also avif, gif, bmp, tiff)"
MIN_SIDE_PX = 16
MAX_SIDE_PX = 20_000
MAX_PIXELS = 80_000_000  # below Pillow's own alarm; 240 MB as RGB

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # nothing that starts another program
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow's decoders raise


def read_picture(path: str | Path) -> np.ndarray:
    """Reads a picture as a viewer would show it.

    Turned upright by its EXIF rotation, transparency over white, the first frame of an animation, 16-bit and CMYK
    brought to 8-bit RGB, an embedded colour profile (Display P3 of phones, Adobe RGB, of a press) made sRGB.

    Args:
        path: jpg, png, webp, avif, gif, bmp or tiff.

    Returns:
        (H, W, 3) uint8 sRGB, each side 16 px to 20,000 px, 80 megapixels at most.

    Raises:
        MediaError: missing, not a picture, truncated, too small, or too large.
    """
    path = check_file(path, "picture")
    Image.init()  # some builds of Pillow lack AVIF
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            image = Image.open(path, formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as err:
        raise MediaError(
            f"{path} is not a picture that can be read (its content looks like {describe_content(path)}); "
            f"accepted: {ACCEPTED_PICTURES}"
        ) from err
    except Image.DecompressionBombError as err:
        raise MediaError(f"{path} is too large: {err}; scale it to {MAX_PIXELS // 10**6} megapixels or fewer") from err
    except _DAMAGE as err:
        raise MediaError(f"{path} is damaged: {err}; export the picture again") from err
    with image:
        _check_size(image.width, image.height, path)
        try:
            return _to_rgb(image, path)
        except _DAMAGE as err:
            raise MediaError(f"{path} is damaged or truncated: {err}; export the picture again") from err


def write_picture(path: str | Path, image: np.ndarray, *, overwrite: bool = True) -> Path:
    """Writes a picture; the file appears whole or not at all.

    Args:
        path: a name ending in .png, .jpg, .jpeg or .webp.
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey.
        overwrite: whether an existing file may be replaced.

    Raises:
        OptionError: another ending, or an array of another kind.
        OutputError: the file cannot be written.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise OptionError(f"a picture is (H, W, 3) or (H, W) uint8, not {image.shape} {image.dtype}")
    path = check_output(path, overwrite, suffixes=(".png", ".jpg", ".jpeg", ".webp"))
    options = {".png": {}, ".webp": {"quality": 95}}.get(path.suffix.lower(), {"quality": 95, "subsampling": 0})
    pillow_format = Image.registered_extensions()[path.suffix.lower()]
    with staged(path, overwrite) as name:
        try:
            Image.fromarray(image).save(name, format=pillow_format, **options)
        except OSError as err:
            raise OutputError(f"{path} cannot be written: {err.strerror or err}") from err
    return path


def _check_size(width_px: int, height_px: int, path: Path) -> None:
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise MediaError(f"{path} is too small: {width_px}x{height_px} px; each side needs at least {MIN_SIDE_PX} px")
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise MediaError(
            f"{path} is too large: {width_px}x{height_px} px; scale it to {MAX_PIXELS // 10**6} megapixels "
            f"and {MAX_SIDE_PX:,} px a side or fewer"
        )


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    image.seek(0)
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise MediaError(f"{path} holds floating-point pixels, whose white is unknown; export it as 8-bit or 16-bit")
    if image.mode.startswith("I"):
        return np.repeat(_grey16(image, path)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = _to_srgb(image.convert("RGB"), profile)
        return np.array(Image.composite(opaque, Image.new("RGB", image.size, "white"), image.getchannel("A")))
    if image.mode not in ("RGB", "CMYK", "L"):
        image = image.convert("RGB")
    return np.array(_to_srgb(image, profile).convert("RGB"))


def _grey16(image: Image.Image, path: Path) -> np.ndarray:
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65_535:
        raise MediaError(f"{path} holds 32-bit pixels from {grey.min()} to {grey.max()}; export it as 8-bit or 16-bit")
    return ((grey + 128) // 257).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts from an embedded colour profile; one that is broken or is sRGB itself changes nothing."""
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image
