"""EchoMimicV3 flash: shared query adapters behind MultiTalk's projector, distilled to 8 steps, on Wan 2.1 Fun, 1.3 B.

Source: code antgroup/echomimic_v3, `src/wan_transformer3d_audio_2512`. The file holds a query projection per block
(`q_audio`) that the published forward pass computes and throws away; it is not loaded.
"""

from __future__ import annotations

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Layout, PublishedAdapter, Source, check_base, first_block, install, size
from avatar.dit.published.multitalk import slot_projector
from avatar.dit.published.presets import ECHOMIMIC_FLASH as PRESET
from avatar.dit.transformer import AvatarTransformer3DModel

LAYOUT = Layout(
    modules={"cross_attn.k_audio": "to_k", "cross_attn.v_audio": "to_v", "cross_attn.norm_k_audio": "norm_k"},
    projector="audio_injection.",
    ignored=("cross_attn.q_audio",),
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
    return install(
        PRESET,
        transformer,
        heaps,
        AdapterConfig("audio", "shared_query", token_dim=token_dim, masked=True, key_norm=True),
        lambda: slot_projector(heaps, PRESET),
    )
