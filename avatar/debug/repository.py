"""Tiny random models of the real classes, laid out like a Wan repository: a whole pipeline to try before 30 GB are fetched.

The folders are those of diffusers' Wan repositories (`Wan-AI/Wan2.1-I2V-14B-480P-Diffusers` and its kin), and the code that
loads them is the code that loads the real ones. What comes out is noise, at the right size, rate and length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from avatar.errors import OptionError, OutputError

Kind = Literal["i2v", "t2v", "i2v-2.2"]
KINDS: dict[str, str] = {
    "i2v": "Wan 2.1 image to video, and Wan Fun InP: CLIP picture tokens, 36 channels in",
    "t2v": "Wan 2.1 text to video: 16 channels in, no picture",
    "i2v-2.2": "Wan 2.2 image to video: two experts, 36 channels in, no CLIP",
}
BOUNDARY_RATIO = 0.9  # of Wan 2.2 I2V: the noise level from which the other expert takes over

_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"-()/"
_WIDTH = 32  # of text, picture and speech encoders
_HEADS, _HEAD_DIM = 2, 24


def debug_components(kind: Kind = "i2v", seed: int = 0, num_layers: int = 4) -> dict[str, Any]:
    """Components by the names that diffusers' Wan pipelines give them, and a speech encoder.

    Args:
        kind: one of `KINDS`.
        seed: of the weights.
        num_layers: transformer blocks.

    Returns:
        `tokenizer`, `text_encoder`, `vae`, `scheduler`, `transformer`, `speech_encoder`, `feature_extractor`; where the kind has
        them `image_encoder`, `image_processor`, `transformer_2`. All in evaluation mode, float32.

    Raises:
        OptionError: no such kind.
    """
    if kind not in KINDS:
        raise OptionError(f"no debug model is called {kind!r}; accepted: {', '.join(KINDS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = debug_tokenizer()
        parts: dict[str, Any] = {
            "tokenizer": tokenizer,
            "text_encoder": UMT5EncoderModel(_text_config(len(tokenizer))),
            "vae": _vae(),
            "scheduler": UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
            ),
            "transformer": _transformer(kind, num_layers),
            "speech_encoder": Wav2Vec2Model(_speech_config()),
            "feature_extractor": Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False),
        }
        if kind == "i2v":
            parts["image_encoder"] = CLIPVisionModel(_image_config())
            parts["image_processor"] = CLIPImageProcessor()
        if kind == "i2v-2.2":
            parts["transformer_2"] = _transformer(kind, num_layers)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return parts


def write_debug_repository(folder: str | Path, kind: Kind = "i2v", seed: int = 0, num_layers: int = 4) -> Path:
    """Writes `debug_components` as a diffusers repository.

    Args:
        folder: where; it must not exist, or be empty.
        kind, seed, num_layers: as for `debug_components`.

    Returns:
        The folder, which `diffusers.WanImageToVideoPipeline.from_pretrained` (or `WanPipeline`, for `t2v`) takes, too. The speech
        encoder is in `speech_encoder`, in the layout of `facebook/wav2vec2-base-960h`.

    Raises:
        OptionError: no such kind.
        OutputError: there is something in the folder already.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty; name a new folder")
    parts = debug_components(kind, seed, num_layers)
    extractor = parts.pop("feature_extractor")
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    extractor.save_pretrained(folder / "speech_encoder")
    del parts["speech_encoder"]
    index: dict[str, Any] = {
        "_class_name": "WanPipeline" if kind == "t2v" else "WanImageToVideoPipeline",
        "_diffusers_version": "0.35.0",
        **{name: _class_of(part) for name, part in parts.items()},
    }
    for name in ("transformer_2", *(() if kind == "t2v" else ("image_encoder", "image_processor"))):
        index.setdefault(name, [None, None])
    index["boundary_ratio"] = BOUNDARY_RATIO if "transformer_2" in parts else None
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def debug_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single characters in SentencePiece's manner: `<pad>` 0, `</s>` 1 at the end, `<unk>` 2."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *_CHARACTERS]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _text_config(vocabulary: int) -> UMT5Config:
    return UMT5Config(
        vocab_size=vocabulary, d_model=_WIDTH, d_kv=16, d_ff=2 * _WIDTH, num_layers=2, num_heads=2, dropout_rate=0.0
    )


def _image_config() -> CLIPVisionConfig:
    """The real grid: 224 px in patches of 14, 257 tokens."""
    return CLIPVisionConfig(
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=224,
        patch_size=14,
    )


def _speech_config() -> Wav2Vec2Config:
    """The real stem and depth of wav2vec2-base, narrow."""
    return Wav2Vec2Config(
        hidden_size=_WIDTH,
        num_hidden_layers=12,
        num_attention_heads=2,
        intermediate_size=2 * _WIDTH,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )


def _vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def _transformer(kind: str, num_layers: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=_HEADS,
        attention_head_dim=_HEAD_DIM,
        in_channels=16 if kind == "t2v" else 36,
        text_dim=_WIDTH,
        freq_dim=32,
        ffn_dim=96,
        num_layers=num_layers,
        image_dim=_WIDTH if kind == "i2v" else None,
        added_kv_proj_dim=_HEADS * _HEAD_DIM if kind == "i2v" else None,
    )


def _class_of(part: object) -> list[str]:
    """Library and class as a repository names them; without torchvision transformers has another class of picture reader."""
    return [type(part).__module__.split(".")[0], type(part).__name__.removesuffix("Pil")]
