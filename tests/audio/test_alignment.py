"""Which features a latent frame hears."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar.audio.alignment import audio_windows, first_feature, window_length
from avatar.errors import OptionError

STRIDE, MARGIN = 4, 4


def _naive(features: torch.Tensor, start: int, stop: int, offset: int = 0) -> torch.Tensor:
    """A loop over latent frames, then over the video frames they cover: two features each, four on both sides."""
    windows = []
    for latent in range(start, stop):
        last_video_frame = latent * STRIDE
        first_video_frame = last_video_frame - STRIDE + 1
        window = []
        for feature in range(2 * first_video_frame - MARGIN, 2 * (last_video_frame + 1) + MARGIN):
            row = feature - offset
            window.append(features[row] if 0 <= row < len(features) else torch.zeros(features.shape[1]))
        windows.append(torch.stack(window))
    return torch.stack(windows)


@pytest.mark.parametrize(("start", "stop", "offset"), [(0, 6, 0), (3, 5, 0), (2, 9, 7), (4, 6, 24)])
def test_windows_equal_a_naive_loop(start: int, stop: int, offset: int) -> None:
    features = torch.randn(40, 3)
    windows = audio_windows(features, start, stop, temporal_stride=STRIDE, margin_features=MARGIN, offset=offset)
    assert torch.equal(windows, _naive(features, start, stop, offset))


def test_outside_the_sound_windows_are_zero() -> None:
    features = torch.ones(10, 2)
    windows = audio_windows(features, 0, 8, temporal_stride=STRIDE, margin_features=MARGIN)
    first = first_feature(0, STRIDE, MARGIN)
    assert first == -10
    assert not windows[0, :10].any() and windows[0, 10:].all()
    assert not windows[4:].any()


def test_without_any_features_windows_are_zero() -> None:
    """Regression: one of two speakers ends long before the other, and all her features are forgotten."""
    windows = audio_windows(torch.zeros(0, 5), 3, 6, temporal_stride=STRIDE, margin_features=MARGIN, offset=4)
    assert windows.shape == (3, window_length(STRIDE, MARGIN), 5)
    assert not windows.any()


def test_neighbouring_windows_overlap_by_the_margins_alone() -> None:
    features = torch.arange(100.0)[:, None]
    windows = audio_windows(features, 2, 5, temporal_stride=STRIDE, margin_features=MARGIN)[..., 0]
    core = windows[:, MARGIN:-MARGIN].flatten()
    assert np.array_equal(np.diff(core), np.ones(len(core) - 1))
    assert torch.equal(windows[0, -2 * MARGIN :], windows[1, : 2 * MARGIN])


def test_a_window_is_as_many_features_as_the_frames_are_long() -> None:
    assert window_length(4, 4) == 16
    assert window_length(1, 0) == 2
    with pytest.raises(OptionError, match="50 features a second do not divide evenly over 30 frames"):
        window_length(4, 4, fps=30)
