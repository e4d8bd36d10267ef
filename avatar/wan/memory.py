"""Where a Wan pipeline keeps its weights while it works: fast on a large card, slowly on a small one.

Sources: diffusers' guides to layerwise casting and group offloading.
"""

from __future__ import annotations

import torch
from diffusers.hooks import apply_group_offloading

from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.ways import Memory, check_memory

_STORAGE = torch.float8_e4m3fn


def use_memory(pipeline: WanAvatarPipeline, memory: Memory, device: str | torch.device) -> WanAvatarPipeline:
    """Places a pipeline's parts; once for a pipeline.

    Args:
        pipeline: freshly loaded, on the CPU.
        memory: one of `avatar.wan.ways.MEMORY`.
        device: where it computes.

    Returns:
        The pipeline.

    Raises:
        OptionError: see `check_memory`.
    """
    device = torch.device(device)
    check_memory(memory, device.type)
    if memory == "fast":
        return pipeline.to(device)
    if memory == "balanced":
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    pipeline.vae.enable_tiling()
    for part in (pipeline.vae, pipeline.audio_projector, pipeline.speech_encoder, pipeline.audio_projector_2):
        if part is not None:
            part.to(device)
    ahead = device.type == "cuda"  # the next block is brought while one computes
    for transformer in (pipeline.transformer, pipeline.transformer_2):
        if transformer is not None:
            transformer.enable_layerwise_casting(storage_dtype=_STORAGE, compute_dtype=transformer.dtype)
            transformer.enable_group_offload(
                onload_device=device,
                offload_device=torch.device("cpu"),
                offload_type="block_level",
                num_blocks_per_group=1,
                use_stream=ahead,
            )
    for encoder in (pipeline.text_encoder, pipeline.image_encoder):
        if encoder is not None:
            apply_group_offloading(
                encoder, onload_device=device, offload_device=torch.device("cpu"), offload_type="leaf_level"
            )
    return pipeline
