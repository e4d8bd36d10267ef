"""Shapes and their conversions, and what a `Conditioning` can do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.clip import VideoClip
from avatar.errors import OptionError
from avatar.types import BBox, Conditioning, LatentShape, Stride, VideoShape, Waveform

MESH, WAN = Stride(4, 1, 1), Stride(4, 8, 8)


@pytest.mark.parametrize(
    ("duration_s", "num_frames"), [(0.0, 1), (0.02, 1), (0.061, 2), (1.0, 25), (10.019, 250), (60.021, 1501)]
)
def test_a_video_is_as_long_as_its_sound_to_the_nearest_frame(duration_s: float, num_frames: int) -> None:
    shape = VideoShape.for_duration(duration_s, 4, 6)
    assert shape.num_frames == num_frames
    assert abs(shape.duration_s - max(duration_s, 1 / 25)) <= 0.5 / 25 + 1e-9


@pytest.mark.parametrize(("frames", "latent"), [(1, 1), (2, 2), (5, 2), (6, 3), (49, 13), (50, 14)])
def test_latents_follow_the_rule_of_one_plus_four(frames: int, latent: int) -> None:
    shape = LatentShape.from_video(VideoShape(frames, 480, 832), WAN, 16)
    assert shape == LatentShape(16, latent, 60, 104)
    covered = shape.num_video_frames(WAN)
    assert covered == 1 + 4 * (latent - 1)
    assert frames <= covered < frames + WAN.time


def test_partial_cells_are_covered_in_space_too() -> None:
    assert LatentShape.from_video(VideoShape(1, 9, 17), WAN, 4) == LatentShape(4, 1, 2, 3)
    assert LatentShape.from_video(VideoShape(1, 4, 4), MESH, 16) == LatentShape(16, 1, 4, 4)


def test_a_waveform_is_one_channel_at_a_rate() -> None:
    assert Waveform(np.zeros(8_000, np.float32)).duration_s == 0.5
    with pytest.raises(OptionError, match=r"one channel \(S,\), not \(2, 10\); mix the channels first"):
        Waveform(np.zeros((2, 10), np.float32))
    with pytest.raises(OptionError, match="sample_rate_hz must be positive, not 0"):
        Waveform(np.zeros(10, np.float32), 0)


def test_overlap_of_boxes() -> None:
    box = BBox(0, 0, 10, 20)
    assert box.iou(box) == 1
    assert box.iou(BBox(10, 0, 20, 20)) == 0
    assert box.iou(BBox(5, 0, 15, 20)) == pytest.approx(1 / 3)
    assert box.scaled(2) == BBox(-5, -10, 15, 30)
    assert box.scaled(2).centre == box.centre
    assert BBox(1, 1, 1, 1).iou(BBox(1, 1, 1, 1)) == 0  # no area, no division by it


def _conditioning() -> Conditioning:
    return Conditioning(
        audio_tokens=torch.randn(2, 3, 5, 4, 8),
        face_mask=torch.rand(2, 3, 5, 2, 2),
        identity_tokens=torch.randn(2, 6, 8),
        emotion_tokens=torch.randn(2, 5, 2, 8),
        reference_latents=torch.randn(2, 16, 5, 4, 4),
    )


def test_dropping_a_condition_zeroes_it_and_leaves_the_rest() -> None:
    full = _conditioning()
    null = full.with_dropped("audio", "emotion")
    assert not null.audio_tokens.any() and not null.emotion_tokens.any()  # type: ignore[union-attr]
    assert null.audio_tokens.shape == full.audio_tokens.shape  # type: ignore[union-attr]
    assert null.identity_tokens is full.identity_tokens
    assert null.face_mask is full.face_mask
    assert full.audio_tokens.any()  # type: ignore[union-attr]


def test_dropping_what_is_not_there_is_nothing() -> None:
    assert _conditioning().with_dropped("text").text_tokens is None
    assert Conditioning().with_dropped("audio", "identity", "emotion", "image") == Conditioning()


def test_dropping_an_unknown_condition_names_the_known_ones() -> None:
    with pytest.raises(
        OptionError, match="no condition is called 'sound'; accepted: audio, identity, emotion, text, image"
    ):
        _conditioning().with_dropped("sound")


def test_frames_cuts_what_belongs_to_frames() -> None:
    full = _conditioning()
    part = full.frames(1, 4)
    assert torch.equal(part.audio_tokens, full.audio_tokens[:, :, 1:4])  # type: ignore[arg-type,index]
    assert torch.equal(part.face_mask, full.face_mask[:, :, 1:4])  # type: ignore[arg-type,index]
    assert torch.equal(part.emotion_tokens, full.emotion_tokens[:, 1:4])  # type: ignore[arg-type,index]
    assert torch.equal(part.reference_latents, full.reference_latents[:, :, 1:4])  # type: ignore[arg-type,index]
    assert part.identity_tokens is full.identity_tokens
    assert Conditioning().frames(0, 2) == Conditioning()


def test_a_clip_renders_anew_each_time_it_is_asked() -> None:
    passes = []

    def blocks():  # noqa: ANN202
        passes.append(1)
        yield np.zeros((2, 4, 4, 3), np.uint8)
        yield np.ones((1, 4, 4, 3), np.uint8)

    clip = VideoClip(VideoShape(3, 4, 4), blocks)
    assert clip.frames().shape == (3, 4, 4, 3)
    assert np.array_equal(clip.frames()[:, 0, 0, 0], [0, 0, 1])
    assert len(passes) == 2


def test_frames_may_be_named_one_by_one() -> None:
    """Windows of long video wrap around; the speaker axis of emotion and the masks move along."""
    full = replace(_conditioning(), emotion_tokens=torch.randn(2, 3, 5, 2, 8), audio_mask=torch.randn(2, 3, 5, 2, 2))
    part = full.at_frames(torch.tensor([4, 0, 1]))
    assert torch.equal(part.emotion_tokens, full.emotion_tokens[:, :, [4, 0, 1]])  # type: ignore[arg-type,index]
    assert torch.equal(part.audio_mask, full.audio_mask[:, :, [4, 0, 1]])  # type: ignore[arg-type,index]
    assert part.text_tokens is full.text_tokens
