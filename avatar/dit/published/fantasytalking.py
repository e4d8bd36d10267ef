"""FantasyTalking: shared query adapters on Wan 2.1 image-to-video, 14 B.

Source: M. Wang et al., arXiv 2504.04842; code Fantasy-AMAP/fantasy-talking.
"""

from __future__ import annotations

from typing import Literal

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Layout, PublishedAdapter, Source, check_base, first_block, install, size
from avatar.dit.published.presets import FANTASYTALKING as PRESET
from avatar.dit.published.projectors import WindowProjector
from avatar.dit.transformer import AvatarTransformer3DModel

LAYOUT = Layout(
    modules={"cross_attn.processor.k_proj": "to_k", "cross_attn.processor.v_proj": "to_v"},
    projector="proj_model.",
    prefixes=("audio_processor.",),
)


def load(
    transformer: AvatarTransformer3DModel, source: Source, *, audio_padding: Literal["masked", "zeros"] = "masked"
) -> PublishedAdapter:
    """Puts the adapter onto a base.

    Args:
        transformer: Wan 2.1 image-to-video; it is changed.
        source: the file, `.ckpt` or `.safetensors`, or its tensors by name.
        audio_padding: whether tokens beyond the ends of the sound are left out of the attention (as the published code does
            with flash-attention, its authors' setting) or take part as zeros (as it does without).

    Raises:
        InputError, WeightsError: the file cannot be read, or does not fit.
    """
    check_base(PRESET, transformer)
    heaps = LAYOUT.sort(source)
    token_dim = size(first_block(heaps, PRESET), "to_k.weight", 1, PRESET)
    feature_dim = size(heaps.projector, "proj.weight", 1, PRESET)
    return install(
        PRESET,
        transformer,
        heaps,
        AdapterConfig("audio", "shared_query", token_dim=token_dim, masked=True, bias=False),
        lambda: WindowProjector(feature_dim, token_dim, mask_padding=audio_padding == "masked"),
    )
