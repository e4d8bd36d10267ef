"""How many numbers the parts of a published system hold, and what that takes on a disk and on a device.

Counts are from the shapes (`tests/hub/test_sizes.py` counts again); sizes on disk are the most they can be, since some files
could not be looked at: `avatar fetch` shows the exact ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from avatar.dit.published.preset import PublishedPreset

TEXT_ENCODER, PICTURE_ENCODER, VAE, SPEECH_ENCODER = 5.681, 0.631, 0.127, 0.094  # 1e9 numbers: UMT5-XXL, CLIP ViT-H …
TEXT_EMBEDDING = 1.050  # the text encoder's largest piece that is moved at a time
_BF16, _FLOAT32, _FP8 = 2, 4, 1  # bytes


@dataclass(frozen=True)
class _Transformer:
    """A base: 1e9 numbers, blocks, and bytes a number as it is published."""

    parameters: float
    num_blocks: int
    stored_bytes: int = _FLOAT32


_BASES = {
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers": _Transformer(16.39, 40),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": _Transformer(16.39, 40),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": _Transformer(14.29, 40),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": _Transformer(1.42, 30),
    "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP": _Transformer(1.56, 30, _BF16),
}
_ADAPTERS = {  # 1e9 numbers beside the base's, and the most gigabytes their file can have
    "fantasytalking": (0.84, 3.4),
    "echomimic-v3": (0.14, 6.8),  # the file may bring all of the base along
    "echomimic-v3-flash": (0.2, 7.0),
    "multitalk": (2.5, 10.0),
    "infinitetalk": (2.5, 10.0),
    "infinitetalk-multi": (2.5, 10.0),
    "omniavatar-14b": (0.01, 2.5),  # a LoRA that is merged
    "omniavatar-1.3b": (0.01, 0.8),
    "stableavatar": (0.2, 7.2),
}


@dataclass(frozen=True)
class SystemSize:
    """What one system takes.

    Attributes:
        parameters: of all networks, 1e9.
        transformer: of the base with its adapter, 1e9.
        base_gb, components_gb, adapter_gb, encoder_gb: downloads, at most.
        device_gb: weights on the device at a time, by way of keeping them (`--memory`); activations come on top.
        host_gb: the computer's own memory while they are loaded.
    """

    parameters: float
    transformer: float
    base_gb: float
    components_gb: float
    adapter_gb: float
    encoder_gb: float
    device_gb: dict[str, float]
    host_gb: float

    @property
    def download_gb(self) -> float:
        return self.base_gb + self.components_gb + self.adapter_gb + self.encoder_gb


def size_of(preset: PublishedPreset) -> SystemSize:
    """Sizes of a system, counted."""
    base = _BASES[preset.base.download.repository]
    added, adapter_gb = _ADAPTERS[preset.name]
    picture = PICTURE_ENCODER if preset.base.image_to_video else 0.0
    transformer = base.parameters + added
    beside_gb = _FLOAT32 * (TEXT_ENCODER + picture + VAE)  # published in float32
    separate = preset.base.components is not None
    resident = _FLOAT32 * (VAE + SPEECH_ENCODER)
    whole = _BF16 * (transformer + TEXT_ENCODER + picture) + resident
    two_blocks = (_BF16 + _FP8) * transformer / base.num_blocks  # the one that computes, and the next as it is stored
    return SystemSize(
        parameters=transformer + TEXT_ENCODER + picture + VAE + SPEECH_ENCODER,
        transformer=transformer,
        base_gb=base.stored_bytes * base.parameters + (0.0 if separate else beside_gb),
        components_gb=beside_gb if separate else 0.0,
        adapter_gb=adapter_gb,
        encoder_gb=_FLOAT32 * SPEECH_ENCODER,
        device_gb={
            "low": resident + max(two_blocks, _BF16 * TEXT_EMBEDDING),
            "balanced": _BF16 * max(transformer, TEXT_ENCODER),
            "fast": whole,
        },
        host_gb=whole,
    )
