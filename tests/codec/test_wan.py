"""The Wan codec: diffusers' autoencoder, without its traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline

from avatar.codec.wan import WanCodec
from avatar.debug import debug_components, write_debug_repository
from avatar.errors import OptionError
from avatar.types import BBox, Face, HeadPose, Portrait

CUTS = [[5], [1, 1, 1, 1, 1], [2, 3], [1, 4], [4, 1]]


def _vae(**settings: object) -> AutoencoderKLWan:
    torch.manual_seed(0)
    small = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**small, **settings}).eval()


@pytest.fixture(scope="module")
def codec() -> WanCodec:
    return WanCodec(_vae())


def _latents(frames: int = 5, height: int = 4, width: int = 6, channels: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(channels, frames, height, width, generator=torch.Generator().manual_seed(seed))


def _footage(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 32, 48, 3), dtype=np.uint8)


@torch.no_grad()
def _whole(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """What diffusers' pipeline does with finished latents."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return vae.decode(latents[None] / std + mean).sample[0]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_decoding_in_blocks_is_decoding_at_once_to_the_bit(codec: WanCodec, cut: list[int]) -> None:
    blocks = list(codec.decode_pixels(_latents().split(cut, dim=1)))
    assert [block.shape[1] for block in blocks] == [4 * n - 3 * (i == 0) for i, n in enumerate(cut)]
    assert torch.equal(torch.cat(blocks, dim=1), _whole(codec.vae, _latents()))


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("cut", [[3], [1, 2]], ids=str)
def test_tiles_in_blocks_are_tiles_at_once_to_the_bit(cut: list[int], patched: bool) -> None:
    wan22 = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
    vae = _vae(**(wan22 if patched else {}))
    px = vae.config.scale_factor_spatial
    vae.enable_tiling(4 * px, 6 * px, 2 * px, 4 * px)
    latents = _latents(3, 5, 8)
    whole = _whole(vae, latents)
    assert torch.equal(torch.cat(list(WanCodec(vae).decode_pixels(latents.split(cut, dim=1))), dim=1), whole)
    vae.disable_tiling()
    assert not torch.equal(_whole(vae, latents), whole)  # the tiles did something


def test_wan22s_autoencoder_decodes_the_same_in_blocks() -> None:
    vae = _vae(
        is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16, dim_mult=[1, 2, 2, 2]
    )
    codec = WanCodec(vae)
    assert (codec.stride.height, codec.token_px) == (16, 32)
    blocks = list(codec.decode_pixels(_latents(3).split([1, 2], dim=1)))
    assert torch.equal(torch.cat(blocks, dim=1), _whole(vae, _latents(3)))
    assert blocks[1].shape == (3, 8, 64, 96)


def test_two_streams_of_one_codec_do_not_disturb_each_other(codec: WanCodec) -> None:
    """diffusers keeps the state on the module, where a second stream, or an encoding, would end the first."""
    one, other = _latents(seed=1), _latents(seed=2)
    first, second = codec.decode_pixels(one.split(1, dim=1)), codec.decode_pixels(other.split(1, dim=1))
    pairs = []
    for pair in zip(first, second, strict=True):
        pairs.append(pair)
        codec.encode(_footage(5))
        _whole(codec.vae, one)
    assert torch.equal(torch.cat([a for a, _ in pairs], dim=1), _whole(codec.vae, one))
    assert torch.equal(torch.cat([b for _, b in pairs], dim=1), _whole(codec.vae, other))


def test_a_decoding_that_is_left_unfinished_leaves_gradients_on(codec: WanCodec) -> None:
    """Regression: the switch was around the yield, so whoever took one block went on without gradients."""
    decoding = codec.decode_pixels(_latents().split(1, dim=1))
    next(decoding)
    assert torch.is_grad_enabled()


def test_frames_come_as_bytes(codec: WanCodec) -> None:
    frames = np.concatenate(list(codec.decode(_latents(3).split([1, 2], dim=1))))
    assert frames.shape == (9, 32, 48, 3) and frames.dtype == np.uint8
    expected = ((_whole(codec.vae, _latents(3)) / 2 + 0.5) * 255).round().byte().movedim(0, -1).numpy()
    assert np.abs(frames.astype(int) - expected).max() <= 1
    assert frames.std() > 1


@pytest.mark.parametrize(("num_frames", "latent_frames"), [(1, 1), (5, 2), (13, 4)])
def test_encoding_gives_normalised_latents(codec: WanCodec, num_frames: int, latent_frames: int) -> None:
    video = _footage(num_frames)
    latents = codec.encode(video)
    assert latents.shape == (16, latent_frames, 4, 6)
    pixels = torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        raw = codec.vae.encode(pixels).latent_dist.mode()[0]
    mean, std = (torch.tensor(codec.vae.config[f"latents_{x}"]).view(-1, 1, 1, 1) for x in ("mean", "std"))
    assert torch.allclose(latents, (raw - mean) / std, atol=1e-5)


@pytest.mark.parametrize(
    ("num_frames", "words"), [(2, "give 1 or 5"), (15, "give 13 or 17"), (16, "give 13 or 17"), (0, "give 1 or 5")]
)
def test_frames_that_do_not_fit_are_refused_not_dropped(codec: WanCodec, num_frames: int, words: str) -> None:
    with pytest.raises(
        OptionError, match=f"{num_frames} frames do not fit the Wan codec, which takes 1 \\+ 4 k: {words}"
    ):
        codec.encode(_footage(num_frames))


def test_padding_asked_for_repeats_the_last_frame(codec: WanCodec) -> None:
    video = _footage(14)
    padded = np.concatenate([video, np.repeat(video[-1:], 3, axis=0)])
    assert torch.equal(codec.encode(video, padding="repeat_last"), codec.encode(padded))
    assert torch.equal(codec.encode(padded, padding="repeat_last"), codec.encode(padded))


def test_sizes_that_tokens_do_not_fill_are_refused(codec: WanCodec) -> None:
    with pytest.raises(OptionError, match="multiples of 16 px, not 40x32; see size_for"):
        codec.encode(np.zeros((1, 32, 40, 3), np.uint8))
    with pytest.raises(OptionError, match="frames are \\(T, H, W, 3\\) uint8, not \\(32, 40, 3\\) float64"):
        codec.encode(np.zeros((32, 40, 3)))


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((512, 512), 512, (512, 512)),
        ((480, 832), 832, (480, 832)),
        ((1080, 1920), 832, (464, 832)),
        ((900, 30), 64, (64, 16)),
    ],
)
def test_a_size_keeps_the_shape_and_is_whole_tokens(
    codec: WanCodec, shape: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert codec.size_for(np.zeros((*shape, 3), np.uint8), side) == expected


def test_a_size_below_one_token_is_refused(codec: WanCodec) -> None:
    with pytest.raises(OptionError, match="longer side must be 16 px or more, not 8"):
        codec.size_for(np.zeros((32, 32, 3), np.uint8), 8)


def test_the_condition_is_diffusers_own(tmp_path: Path) -> None:
    pipeline = WanImageToVideoPipeline.from_pretrained(write_debug_repository(tmp_path / "wan"))
    codec = WanCodec(pipeline.vae)
    image = codec.pixels(_footage(1)[0], (32, 48))
    _, expected = pipeline.prepare_latents(image[:, 0][None], 1, 16, 32, 48, 9, torch.float32, torch.device("cpu"))
    got = codec.condition(image, 9)
    assert got.shape == (20, 3, 4, 6)
    assert torch.equal(got[None], expected)


def test_a_condition_can_begin_with_several_frames(codec: WanCodec) -> None:
    known = torch.from_numpy(_footage(5)).movedim(-1, 0) / 127.5 - 1
    condition = codec.condition(known, 13)
    assert condition[:4, :, 0, 0].T.tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert torch.allclose(condition[4:, :2], codec.encode(_footage(5)), atol=1e-6)  # the code is causal
    three = codec.condition(known[:, :3], 5)
    assert three[:4, :, 0, 0].T.tolist() == [[1] * 4, [1, 1, 0, 0]]
    with pytest.raises(OptionError, match="5 frames are given for a video of 1"):
        codec.condition(known, 1)


def _portrait(left: float, right: float) -> Portrait:
    box = BBox(left, 10, right, 20)
    return Portrait(_footage(1)[0], Face(box, np.zeros((478, 3), np.float32), HeadPose(0, 0, 0)))


def test_a_portrait_is_one_latent_frame(codec: WanCodec) -> None:
    person = _portrait(10, 20)
    assert torch.equal(codec.encode_portrait(person), codec.encode(_footage(1)))
    assert codec.encode_portrait(person, (64, 96)).shape == (16, 1, 8, 12)


def test_each_speaker_has_a_mask_on_the_token_grid(codec: WanCodec) -> None:
    masks = codec.face_mask(3, [_portrait(2, 12), _portrait(34, 46)], (32, 48))
    assert masks.shape == (2, 3, 2, 3)
    assert masks.min() >= 0 and masks.max() <= 1
    assert masks[0, :, :, 0].max() > 0 and masks[0, :, :, 2].max() == 0
    assert masks[1, :, :, 2].max() > 0 and masks[1, :, :, 0].max() == 0


def test_the_debug_autoencoder_fits() -> None:
    assert WanCodec(debug_components("t2v")["vae"]).channels == 16
