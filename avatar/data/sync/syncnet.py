"""SyncNet: five frames of a face and 0.2 s of sound to points of one space, and the distance curve it was published with.

Source: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", 2016; layers, preprocessing and distances
as joonson/syncnet_python has them (MIT), whose state dicts load unchanged.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.signal import medfilt
from torch import Tensor, nn

from avatar.data.sync.lag_curve import MAX_OFFSET_FRAMES
from avatar.data.sync.mfcc import mfcc
from avatar.errors import WeightsError
from avatar.types import Waveform

WINDOW_FRAMES, WINDOW_CEPSTRA, CEPSTRA_PER_FRAME = 5, 20, 4
SIDE_PX = 224
SAMPLES_PER_FRAME = 640
_CROP_SCALE, _PAD_VALUE, _MEDIAN_FRAMES = 0.4, 110, 13


class SyncNet(nn.Module):
    """Both towers; the names of the four parts are those of the published state dict."""

    def __init__(self, embedding: int = 1024) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_stage(nn.Conv2d(1, 64, 3, padding=1)), nn.MaxPool2d(1, 1),
            *_stage(nn.Conv2d(64, 192, 3, padding=1)), nn.MaxPool2d(3, (1, 2)),
            *_stage(nn.Conv2d(192, 384, 3, padding=1)),
            *_stage(nn.Conv2d(384, 256, 3, padding=1)),
            *_stage(nn.Conv2d(256, 256, 3, padding=1)), nn.MaxPool2d(3, 2),
            *_stage(nn.Conv2d(256, 512, (5, 4))),
        )  # fmt: skip
        self.netcnnlip = nn.Sequential(
            *_stage(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_stage(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_stage(nn.Conv3d(256, 512, (1, 6, 6))),
        )  # fmt: skip
        self.netfcaud = _head(embedding)
        self.netfclip = _head(embedding)

    def embed_sound(self, cepstra: Tensor) -> Tensor:
        """(B, 1, 13, 20) to (B, E)."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def embed_faces(self, faces: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224), blue first, 0 to 255, to (B, E)."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def load_syncnet(path: Path) -> SyncNet:
    """Reads published weights (`syncnet_v2.model`).

    Raises:
        WeightsError: the file cannot be read, or does not fit.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        head = state["netfcaud.3.weight"]
        network = SyncNet(head.shape[0])
        network.load_state_dict(state)
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError, pickle.UnpicklingError) as err:
        raise WeightsError(f"{path} does not hold SyncNet's state dict: {err}; {HOW_TO_GET}") from err
    return network.eval()


HOW_TO_GET = (
    "fetch syncnet_v2.model from www.robots.ox.ac.uk/~vgg/software/lipsync, or hf download ByteDance/LatentSync-1.5 "
    "auxiliary/syncnet_v2.model, and give its path as `weights`"
)


@torch.inference_mode()
def embed_clip(
    network: SyncNet, faces: np.ndarray, speech: Waveform, batch_size: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Both towers over a clip.

    Args:
        network: the network.
        faces: (T, 224, 224, 3) uint8 RGB at 25 fps, as `crop_faces` gives them.
        speech: 16 kHz sound that starts with the first frame.
        batch_size: windows at a time.

    Returns:
        Two (N, E) float32, N = min(T, sound's frames) - 5; N may be 0.
    """
    count = max(0, min(len(faces), len(speech.samples) // SAMPLES_PER_FRAME) - WINDOW_FRAMES)
    cepstra = mfcc(np.clip(np.round(speech.samples * 32768.0), -32768, 32767)).T.astype(np.float32)
    seen, heard = [], []
    for start in range(0, count, batch_size):
        windows = range(start, min(count, start + batch_size))
        pictures = np.stack([faces[i : i + WINDOW_FRAMES, ..., ::-1].transpose(3, 0, 1, 2) for i in windows])
        seen.append(network.embed_faces(torch.from_numpy(pictures.astype(np.float32))))
        first = [CEPSTRA_PER_FRAME * i for i in windows]
        sound = np.stack([cepstra[None, :, i : i + WINDOW_CEPSTRA] for i in first])
        heard.append(network.embed_sound(torch.from_numpy(sound)))
    if not count:
        return np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    return torch.cat(seen).numpy(), torch.cat(heard).numpy()


def distances(seen: np.ndarray, heard: np.ndarray, max_offset: int = MAX_OFFSET_FRAMES) -> np.ndarray:
    """Mean Euclidean distance at each offset, (2 M + 1,), offsets rising from -M.

    As published, the sound is filled up with zero vectors at both ends, and 1e-6 is added to every difference.

    Args:
        seen, heard: (N, E) embeddings of the same places.
        max_offset: M, frames.
    """
    padded = np.pad(heard, ((max_offset, max_offset), (0, 0)))
    shifts = range(2 * max_offset + 1)
    means = [np.linalg.norm(seen - padded[k : k + len(seen)] + 1e-6, axis=1).mean() for k in shifts]
    return np.array(means)[::-1].copy()  # shift k compares with the sound of frame i + k - M: an offset of M - k


def crop_faces(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The face of every frame as SyncNet was shown it.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        boxes: (T, 4) left, top, right, bottom in px of the frames.

    Returns:
        (T, 224, 224, 3) uint8.
    """
    half = medfilt(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2, _median(len(boxes)))
    across = medfilt((boxes[:, 0] + boxes[:, 2]) / 2, _median(len(boxes)))
    down = medfilt((boxes[:, 1] + boxes[:, 3]) / 2, _median(len(boxes)))
    faces = []
    for frame, s, x, y in zip(frames, half, across, down, strict=True):
        border = int(s * (1 + 2 * _CROP_SCALE))
        padded = np.pad(frame, ((border, border), (border, border), (0, 0)), constant_values=_PAD_VALUE)
        top, bottom = int(y + border - s), int(y + border + s * (1 + 2 * _CROP_SCALE))
        left, right = int(x + border - s * (1 + _CROP_SCALE)), int(x + border + s * (1 + _CROP_SCALE))
        faces.append(cv2.resize(padded[max(0, top) : bottom, max(0, left) : right], (SIDE_PX, SIDE_PX)))
    return np.stack(faces)


def _median(count: int) -> int:
    """Length of the median filter: 13, or the largest odd number of a shorter clip."""
    return min(_MEDIAN_FRAMES, count - 1 + count % 2)


def _stage(convolution: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, ...]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return convolution, norm(convolution.out_channels), nn.ReLU(inplace=True)


def _head(embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, embedding))
