"""MultiTalk and InfiniteTalk: residual adapters with label rotary positions for two speakers, on Wan 2.1, 14 B.

Both publish the same transformer; InfiniteTalk's is trained on for long video with another driver
(`avatar.wan.plan`). Source: Z. Kong et al., arXiv 2505.22647, and S. Yang et al., arXiv 2508.14033; code
MeiGen-AI/MultiTalk and MeiGen-AI/InfiniteTalk.
"""

from __future__ import annotations

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Heaps, Layout, PublishedAdapter, Source, check_base, first_block, install, size
from avatar.dit.published.preset import PublishedPreset
from avatar.dit.published.presets import MULTITALK
from avatar.dit.published.projectors import SlotProjector
from avatar.dit.published.windows import WINDOW
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import WeightsError

ENCODER_LAYERS = 12  # of wav2vec2-base; tensors hold only layers times width

LAYOUT = Layout(
    modules={
        "norm_x": "norm",
        "audio_cross_attn.q_linear": "to_q",
        "audio_cross_attn.kv_linear": "to_kv",
        "audio_cross_attn.proj": "proj",
    },
    projector="audio_proj.",
)


def load(
    transformer: AvatarTransformer3DModel, source: Source, *, preset: PublishedPreset = MULTITALK
) -> PublishedAdapter:
    """Puts the adapter onto a base.

    With one speaker the sound acts everywhere; two are told apart by label rotary positions, with the face masks as regions;
    more by the face masks alone, which the system was not trained for.

    Args:
        transformer: Wan 2.1 image-to-video; it is changed.
        source: the file, or its tensors by name.
        preset: which of the systems the file belongs to.

    Raises:
        InputError, WeightsError: the file cannot be read, or does not fit.
    """
    check_base(preset, transformer)
    heaps = LAYOUT.sort(source)
    token_dim = size(first_block(heaps, preset), "to_kv.weight", 1, preset)
    return install(
        preset,
        transformer,
        heaps,
        AdapterConfig("audio", "residual", token_dim=token_dim, speaker_positions=True),
        lambda: slot_projector(heaps, preset),
    )


def slot_projector(heaps: Heaps, preset: PublishedPreset) -> SlotProjector:
    """The projector that a file's tensors describe, with random weights.

    Raises:
        WeightsError: a tensor is missing, or its size does not divide.
    """
    heap = heaps.projector
    token_dim = size(heap, "norm.weight", 0, preset)
    inputs, hidden = size(heap, "proj1.weight", 1, preset), size(heap, "proj1.weight", 0, preset)
    outputs = size(heap, "proj3.weight", 0, preset)
    if inputs % (WINDOW * ENCODER_LAYERS) or outputs % token_dim:
        raise WeightsError(
            f"the projector of this file takes {inputs} numbers, not a multiple of {WINDOW} frames with {ENCODER_LAYERS} "
            f"layers, or gives {outputs}, not a multiple of {token_dim}: it is not one of {preset.title}"
        )
    return SlotProjector(
        num_layers=ENCODER_LAYERS,
        layer_dim=inputs // (WINDOW * ENCODER_LAYERS),
        hidden_dim=hidden,
        num_tokens=outputs // token_dim,
        token_dim=token_dim,
    )
