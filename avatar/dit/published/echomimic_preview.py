"""EchoMimicV3 preview: shared query adapters with a key norm, behind a face mask, on Wan 2.1 Fun, 1.3 B.

Source: R. Meng et al., arXiv 2507.03905; code antgroup/echomimic_v3. The mask multiplies what the audio attention gives, a
value per token of a frame, the same in all frames; padding is heard.
"""

from __future__ import annotations

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Layout, PublishedAdapter, Source, check_base, first_block, install, size
from avatar.dit.published.presets import ECHOMIMIC_PREVIEW as PRESET
from avatar.dit.published.projectors import WindowProjector
from avatar.dit.transformer import AvatarTransformer3DModel

LAYOUT = Layout(
    modules={"cross_attn.k_audio": "to_k", "cross_attn.v_audio": "to_v", "cross_attn.norm_k_audio": "norm_k"},
    projector="audio2token.",
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
    feature_dim = size(heaps.projector, "proj.weight", 1, PRESET)
    return install(
        PRESET,
        transformer,
        heaps,
        AdapterConfig("audio", "shared_query", token_dim=token_dim, masked=True, key_norm=True, bias=False),
        lambda: WindowProjector(
            feature_dim, token_dim, mask_padding=False, frames_from_features=True, null_features=True
        ),
    )
