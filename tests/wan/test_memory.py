"""Where weights are kept; what of it a CPU can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.debug import load_debug_adapter, write_debug_repository
from avatar.errors import OptionError
from avatar.identity.choose import load_portrait
from avatar.types import Waveform
from avatar.wan.memory import use_memory
from avatar.wan.pipeline import WanAvatarPipeline

PHOTO = Path(__file__).resolve().parent.parent.parent / "examples" / "astronaut.png"


@pytest.fixture
def pipeline(tmp_path: Path) -> WanAvatarPipeline:
    folder = write_debug_repository(tmp_path / "wan")
    return WanAvatarPipeline.from_folders(folder, lambda model: load_debug_adapter("echomimic-v3", model))


def weight_bytes(pipeline: WanAvatarPipeline) -> dict[str, int]:
    """How much each part's weights take as they are stored now."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(p.numel() * p.element_size() for p in part.parameters()) for name, part in parts.items()}


def _film(pipeline: WanAvatarPipeline) -> np.ndarray:
    speech = Waveform((0.1 * np.random.default_rng(0).normal(size=3200)).astype(np.float32))
    return pipeline(load_portrait(PHOTO), speech, size_px=32, num_inference_steps=2).frames()


def test_low_memory_makes_nearly_the_same_film_from_fewer_bytes(pipeline: WanAvatarPipeline) -> None:
    whole, before = _film(use_memory(pipeline, "fast", "cpu")), weight_bytes(pipeline)["transformer"]
    low = _film(use_memory(pipeline, "low", "cpu"))
    assert low.shape == whole.shape
    assert 0 < np.abs(low.astype(float) - whole).mean() < 10
    assert weight_bytes(pipeline)["transformer"] < 0.5 * before
    stored = {p.dtype for name, p in pipeline.transformer.named_parameters() if ".attn1.to_q.weight" in name}
    assert stored == {torch.float8_e4m3fn}
    assert pipeline.vae.use_tiling


def test_weights_are_counted_by_part(pipeline: WanAvatarPipeline) -> None:
    sizes = weight_bytes(pipeline)
    assert {"transformer", "vae", "text_encoder", "speech_encoder", "image_encoder", "audio_projector"} <= set(sizes)
    assert sizes["audio_projector"] == 4 * (48 * 32 + 2 * 48)


def test_other_words_are_refused(pipeline: WanAvatarPipeline) -> None:
    with pytest.raises(OptionError, match="memory must be fast, balanced, low, not 'tiny'"):
        use_memory(pipeline, "tiny", "cpu")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="between the CPU and an accelerator, and there is none here"):
        use_memory(pipeline, "balanced", "cpu")
