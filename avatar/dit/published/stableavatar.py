"""StableAvatar: shared query adapters behind a projector that sees the noisy video, on Wan 2.1 Fun, 1.3 B.

Source: S. Tu et al., arXiv 2508.08248; code Francis-Rings/StableAvatar. Padding is heard: the published attention ignores the
lengths it is given.
"""

from __future__ import annotations

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Layout, PublishedAdapter, Source, check_base, first_block, install, size
from avatar.dit.published.presets import STABLEAVATAR as PRESET
from avatar.dit.published.vocal_projector import VocalProjector
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.dit.wan_keys import num_blocks

LAYOUT = Layout(
    modules={"cross_attn.k_vocal": "to_k", "cross_attn.v_vocal": "to_v"},
    projector="vocal_projector.",
)


def load(transformer: AvatarTransformer3DModel, source: Source) -> PublishedAdapter:
    """Puts the adapter onto a base.

    Args:
        transformer: Wan 2.1 Fun InP; it is changed.
        source: the file, or its tensors by name.

    Raises:
        InputError, WeightsError: the file cannot be read, or does not fit.
    """
    check_base(PRESET, transformer)
    heaps = LAYOUT.sort(source)
    token_dim = size(first_block(heaps, PRESET), "to_k.weight", 1, PRESET)
    feature_dim = size(heaps.projector, "proj_model.proj.weight", 1, PRESET)
    ffn_dim = size(heaps.projector, "blocks.0.ffn.0.weight", 0, PRESET)
    return install(
        PRESET,
        transformer,
        heaps,
        AdapterConfig("audio", "shared_query", token_dim=token_dim, masked=True),
        lambda: VocalProjector(feature_dim, token_dim, ffn_dim, num_blocks(heaps.projector)),
    )
