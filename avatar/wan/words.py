"""What a Wan model is told in words and by the look of the picture: text tokens and picture tokens."""

from __future__ import annotations

import html
import re

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel, PreTrainedTokenizerBase, UMT5EncoderModel

from avatar.dit.transformer import WAN_TEXT_TOKENS
from avatar.errors import OptionError

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@torch.no_grad()
def text_tokens(tokenizer: PreTrainedTokenizerBase, encoder: UMT5EncoderModel, prompt: str) -> Tensor:
    """A prompt's tokens, [1, 512, D], zeros after its end.

    Raises:
        OptionError: the prompt is longer than Wan reads.

    Source: `wan/modules/t5.py` of Wan; diffusers' `WanPipeline._get_t5_prompt_embeds`.
    """
    words = re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
    inputs = tokenizer([words], padding="max_length", max_length=WAN_TEXT_TOKENS, return_tensors="pt")
    if inputs.input_ids.shape[1] > WAN_TEXT_TOKENS:
        raise OptionError(f"the prompt has {inputs.input_ids.shape[1]} tokens; Wan reads {WAN_TEXT_TOKENS}; shorten it")
    ids, mask = inputs.input_ids.to(encoder.device), inputs.attention_mask.to(encoder.device)
    tokens = encoder(ids, mask).last_hidden_state
    return tokens * mask[..., None].to(tokens)


@torch.no_grad()
def image_tokens(encoder: CLIPVisionModel, picture: np.ndarray) -> Tensor:
    """CLIP's tokens of a picture (H, W, 3) uint8, [1, 257, D], of the last layer but one.

    The whole picture is squeezed into CLIP's square, as Wan does it; diffusers' pipeline cuts the middle out.

    Source: `wan/modules/clip.py` of Wan.
    """
    side = encoder.config.image_size
    pixels = torch.from_numpy(picture).movedim(-1, 0)[None].to(encoder.device).float() / 255
    pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bicubic", align_corners=False)
    mean, std = (pixels.new_tensor(x).view(1, 3, 1, 1) for x in (_CLIP_MEAN, _CLIP_STD))
    values = ((pixels - mean) / std).to(encoder.dtype)
    return encoder(values, output_hidden_states=True).hidden_states[-2]
