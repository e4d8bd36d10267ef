"""What an adapter costs: one transformer step with it over the same step without, at a published model's widths.

Random weights, a few blocks, few tokens: the ratio does not depend on how many blocks there are.

    python scripts/benchmark_adapters.py
    python scripts/benchmark_adapters.py --shape 14B --device meta --latents 21 60 104
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.types import Conditioning

SHAPES = {"1.3B": (12, 8960, 30), "14B": (40, 13824, 40)}  # heads of 128, feed-forward, blocks
ADAPTERS = {  # as the published systems have them: kind, tokens a latent frame, their width (None for the model's)
    "FantasyTalking": ("shared_query", 17, 2048, {"bias": False}),
    "EchoMimicV3 preview": ("shared_query", 17, None, {"bias": False, "key_norm": True, "masked": True}),
    "EchoMimicV3 flash": ("shared_query", 32, None, {"key_norm": True}),
    "MultiTalk": ("residual", 32, 768, {}),
    "OmniAvatar": ("input", 1, 32, {}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="1.3B")
    parser.add_argument("--blocks", type=int, default=2, help="how many blocks are timed (default 2)")
    parser.add_argument(
        "--latents",
        type=int,
        nargs=3,
        default=(5, 32, 32),
        metavar=("F", "H", "W"),
        help="latent frames, rows and columns (default 5 32 32, 17 frames of 256 px; 81 of 480p are 21 60 104)",
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs, of which the median counts (default 5)")
    parser.add_argument("--device", default="cpu", help="meta: nothing is computed, operations are counted alone")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    frames, height, width = args.latents
    tokens = frames * (height // 2) * (width // 2)
    print(f"Wan {args.shape}, {args.blocks} blocks, {tokens} video tokens, {args.dtype} on {args.device}")
    print(f"{'adapter':22} {'ms':>9} {'ms without':>11} {'time':>7} {'FLOP':>7}")
    for name in ADAPTERS:
        with_flops, without_flops = (_flops(step) for step in _steps(name, args, torch.device("meta"), dtype))
        timed = f"{'':9} {'':11} {'':7}"
        if device.type != "meta":
            with_ms, without_ms = _measure(_steps(name, args, device, dtype), args.runs, device)
            timed = f"{with_ms:9.1f} {without_ms:11.1f} {with_ms / without_ms - 1:+7.1%}"
        print(f"{name:22} {timed} {with_flops / without_flops - 1:+7.2%}", flush=True)
    return 0


def _steps(name: str, args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> list[Callable[[], object]]:
    """A step with the adapter, and the same one without."""
    heads, ffn_dim, _ = SHAPES[args.shape]
    kind, num_tokens, token_dim, settings = ADAPTERS[name]
    token_dim, (frames, height, width) = token_dim or heads * 128, args.latents
    with device:
        model = AvatarTransformer3DModel(
            num_attention_heads=heads, ffn_dim=ffn_dim, num_layers=args.blocks, text_dim=64, in_channels=16
        )
        model.attach_adapters([{"tokens": "audio", "kind": kind, "token_dim": token_dim, **settings}])
        model = model.eval() if dtype == torch.float32 else model.eval().to(dtype)
        latents = torch.randn(1, 16, frames, height, width, dtype=dtype)
        timestep = torch.full((1,), 500.0)
        plain = Conditioning(text_tokens=torch.randn(1, 512, 64, dtype=dtype))
        spoken = Conditioning(
            text_tokens=plain.text_tokens,
            audio_tokens=torch.randn(1, 1, frames, num_tokens, token_dim, dtype=dtype),
            face_mask=torch.ones(1, 1, frames, height // 2, width // 2, dtype=dtype),
        )
    return [lambda c=c: model(latents, timestep, c, return_dict=False) for c in (spoken, plain)]


@torch.no_grad()
def _measure(steps: list[Callable[[], object]], runs: int, device: torch.device) -> tuple[float, float]:
    """Median milliseconds of each, taken in turn."""
    times: list[list[float]] = [[], []]
    for run in range(runs + 1):
        for step, own in zip(steps, times, strict=True):
            spent = _timed(step, device)
            if run:  # the first is to warm up
                own.append(spent)
    return statistics.median(times[0]), statistics.median(times[1])


def _timed(step: Callable[[], object], device: torch.device) -> float:
    """Milliseconds: of processor time on a CPU, which other programs do not lengthen."""
    if device.type == "cpu":
        start = time.process_time()
        step()
        return 1000 * (time.process_time() - start)
    torch.cuda.synchronize()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


@torch.no_grad()
def _flops(step: Callable[[], object]) -> int:
    """Operations of matrices; attention as its two products, which a fused one would hide."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


if __name__ == "__main__":
    sys.exit(main())
