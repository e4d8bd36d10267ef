"""Reading pictures: whatever a viewer would show, as upright 8-bit RGB; what is broken says so in one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from avatar.errors import MediaError, OptionError, OutputError
from avatar.media import read_picture, write_picture


def _scene() -> np.ndarray:
    """(48, 64, 3): a red top left corner, a blue top right, a grey ramp below; soft enough for JPEG."""
    scene = np.zeros((48, 64, 3), np.uint8)
    scene[:24, :32], scene[:24, 32:] = (200, 40, 40), (40, 40, 200)
    scene[24:] = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None]
    return scene


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
def test_every_format_gives_the_same_pixels(ending: str, tmp_path: Path) -> None:
    image = read_picture(_saved(tmp_path / f"me.{ending}", Image.fromarray(_scene()), quality=95))
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    assert np.abs(image.astype(int) - _scene()).mean() < (6 if ending in ("jpg", "webp", "gif") else 1e-9)


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    assert read_picture(_saved(tmp_path / "me.png", Image.fromarray(_scene()), format="JPEG")).shape == (48, 64, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int, tmp_path: Path) -> None:
    turn = Image.Transpose
    stored = (None, turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE, turn.ROTATE_90,
              turn.TRANSVERSE, turn.ROTATE_270)[orientation - 1]  # fmt: skip
    upright = Image.fromarray(_scene())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(tmp_path / "phone.png", upright.transpose(stored) if stored is not None else upright, exif=exif)
    assert np.array_equal(read_picture(path), _scene())


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[:24, :32], alpha[:24, 32:] = 0, 128
    image = read_picture(_saved(tmp_path / "cut.png", Image.fromarray(np.concatenate([_scene(), alpha], 2))))
    assert (image[:24, :32] == 255).all()
    assert np.abs(image[:24, 32:].astype(int) - (147, 147, 227)).max() <= 1
    assert np.array_equal(image[24:], _scene()[24:])


def test_a_transparent_palette_lies_over_white(tmp_path: Path) -> None:
    paletted = Image.fromarray(_scene()).quantize(16)
    clear = paletted.getpixel((0, 0))
    image = read_picture(_saved(tmp_path / "p.png", paletted, transparency=clear))
    assert (image[0, 0] == 255).all() and image[0, 63, 2] > 150


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = read_picture(_saved(tmp_path / "p.png", Image.fromarray(_scene()).quantize(64)))
    assert np.abs(image.astype(int) - _scene()).mean() < 4


def test_grey_with_and_without_alpha(tmp_path: Path) -> None:
    grey = _scene()[:, :, 1]
    image = read_picture(_saved(tmp_path / "l.png", Image.fromarray(grey)))
    assert np.array_equal(image, np.repeat(grey[:, :, None], 3, 2))
    clear = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (64, 48), 0)])
    assert (read_picture(_saved(tmp_path / "la.png", clear)) == 255).all()


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    image = read_picture(_saved(tmp_path / "fax.png", Image.fromarray(_scene()).convert("1", dither=Image.Dither.NONE)))
    assert set(np.unique(image)) == {0, 255}


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(ending: str, tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 65_535, 64)[None], 48, 0).astype(np.uint16)
    image = read_picture(_saved(tmp_path / f"deep.{ending}", Image.fromarray(ramp)))
    assert np.array_equal(image[0, :, 0], np.round(ramp[0] / 257).astype(np.uint8))


def test_sixteen_bit_colour_is_read(tmp_path: Path) -> None:
    import struct
    import zlib

    scene16 = (_scene().astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in scene16)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.array_equal(read_picture(tmp_path / "deep.png"), _scene())


@pytest.mark.parametrize("ending", ["jpg", "tiff"])
def test_cmyk_is_converted(ending: str, tmp_path: Path) -> None:
    image = read_picture(_saved(tmp_path / f"press.{ending}", Image.fromarray(_scene()).convert("CMYK"), quality=98))
    assert np.abs(image.astype(int) - _scene()).mean() < 4


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((32, 32, 3), level, np.uint8)) for level in (10, 120, 240)]
    for ending in ("gif", "webp", "png"):
        path = _saved(tmp_path / f"moving.{ending}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
        assert np.abs(read_picture(path).astype(int) - 10).max() <= 1, ending


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = _saved(tmp_path / "srgb.png", Image.fromarray(_scene()), icc_profile=srgb)
    assert np.array_equal(read_picture(path), _scene())
    for broken in (profile.tobytes(), b"no profile at all"):  # of another kind of picture; of no kind
        path = _saved(tmp_path / "odd.png", Image.fromarray(_scene()), icc_profile=broken)
        assert np.array_equal(read_picture(path), _scene())
    path = _saved(tmp_path / "wide.png", Image.fromarray(_scene()), icc_profile=_swapped_primaries(srgb))
    assert np.abs(read_picture(path)[0, 0].astype(int) - (40, 40, 200)).max() <= 8


def _swapped_primaries(srgb: bytes) -> bytes:
    """An sRGB profile in which red and blue have changed places, under another name."""
    swapped = bytearray(srgb)
    tags = {}
    for at in range(132, 132 + 12 * swapped[131], 12):
        tags[bytes(swapped[at : at + 4])] = at
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(swapped).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")


def test_a_written_picture_is_read_again(tmp_path: Path) -> None:
    assert np.array_equal(read_picture(write_picture(tmp_path / "a.png", _scene())), _scene())
    assert write_picture(tmp_path / "a.jpg", _scene()).read_bytes()[:2] == b"\xff\xd8"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "a.png"]
    with pytest.raises(OutputError, match="a.png exists"):
        write_picture(tmp_path / "a.png", _scene(), overwrite=False)
    with pytest.raises(OptionError, match=r"must end in \.png or \.jpg"):
        write_picture(tmp_path / "a.exe", _scene())
    with pytest.raises(OptionError, match="uint8, not .* float64"):
        write_picture(tmp_path / "b.png", _scene() / 255)


# ---------------------------------------------------------------------------------------------------------- bad input


def _refuses(path: Path, words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_missing_folder_and_empty_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    _refuses(tmp_path / "none.png", "there is no file .*none.png; give the path of a picture file")
    _refuses(tmp_path, "is a folder; give one picture file")
    _refuses(tmp_path / "empty.png", r"is empty \(0 bytes\)")


def test_permission_is_named(tmp_path: Path, hide_from_reader: Callable[[Path], None]) -> None:
    path = _saved(tmp_path / "me.png", Image.fromarray(_scene()))
    hide_from_reader(path)
    _refuses(path, "may not be read: Permission denied")


def test_text_renamed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("Dear friend, this is a letter and no picture.\n" * 30)
    _refuses(tmp_path / "note.png", "not a picture that can be read .*looks like text.*accepted: jpg, png, webp")


def test_a_sound_is_no_picture(wav: Path) -> None:
    _refuses(wav, "looks like a WAV sound")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_truncated_picture_is_refused(ending: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    memory = io.BytesIO()
    Image.fromarray(noise).save(memory, {"jpg": "JPEG"}.get(ending, ending.upper()))
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(memory.getvalue()[: int(len(memory.getvalue()) * share)])
    _refuses(cut, "truncated|damaged|not a picture that can be read")


def test_damaged_png_is_refused(tmp_path: Path) -> None:
    path = _saved(
        tmp_path / "me.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))
    )
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    _refuses(path, "damaged or truncated: ")


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 15)])
def test_too_small_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    _refuses(
        _saved(tmp_path / "dot.png", Image.new("RGB", size)), rf"too small: {size[0]}x{size[1]} px; .* at least 16 px"
    )


@pytest.mark.parametrize("size", [(30_000, 20), (10_000, 9_000)])
def test_too_large_is_refused_before_it_is_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    path = _saved(tmp_path / "wall.png", Image.new("1", size))
    _refuses(path, rf"too large: {size[0]}x{size[1]} px; scale it to 80 megapixels and 20,000 px a side")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "bomb.png", Image.new("1", (30_000, 30_000)))
    _refuses(path, "too large: .*900000000 pixels.*80 megapixels")


def test_pixels_of_unknown_scale_are_refused(tmp_path: Path) -> None:
    _refuses(_saved(tmp_path / "f.tiff", Image.fromarray(np.ones((32, 32), np.float32))), "floating-point pixels")
    _refuses(
        _saved(tmp_path / "i.tiff", Image.fromarray(np.full((32, 32), 10**6, np.int32))), "32-bit pixels from 1000000"
    )
