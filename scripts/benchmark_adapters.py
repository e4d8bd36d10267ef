"""What an adapter costs: one transformer step with it over the same step without, at a published model's widths.

Random weights, a few blocks, few tokens: the ratio does not depend on how many blocks there are. With --train: what a step of
training the adapter costs on the frozen backbone, with forward and backward pass and AdamW; give all the blocks then.

    python scripts/benchmark_adapters.py
    python scripts/benchmark_adapters.py --shape 14B --device meta --latents 21 60 104
    python scripts/benchmark_adapters.py --train --blocks 30 --device cuda --dtype bfloat16 --latents 9 60 104 --checkpointing
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
from avatar.evaluate.memory import peak_memory_mb
from avatar.types import Conditioning

SHAPES = {"1.3B": (12, 8960, 30), "14B": (40, 13824, 40), "tiny": (1, 256, 2)}  # heads of 128, feed-forward, blocks
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
    parser.add_argument("--train", action="store_true", help="time steps of training, on a frozen backbone")
    parser.add_argument("--adapter", choices=tuple(ADAPTERS), default="FantasyTalking", help="with --train: which")
    parser.add_argument("--checkpointing", action="store_true", help="with --train: keep few activations")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    frames, height, width = args.latents
    tokens = frames * (height // 2) * (width // 2)
    print(f"Wan {args.shape}, {args.blocks} blocks, {tokens} video tokens, {args.dtype} on {args.device}")
    if args.train:
        _train(args, device, dtype)
        return 0
    print(f"{'adapter':22} {'ms':>9} {'ms without':>11} {'time':>7} {'FLOP':>7}")
    for name in ADAPTERS:
        with_flops, without_flops = (_flops(step) for step in _steps(name, args, torch.device("meta"), dtype))
        timed = f"{'':9} {'':11} {'':7}"
        if device.type != "meta":
            with_ms, without_ms = _measure(_steps(name, args, device, dtype), args.runs, device)
            timed = f"{with_ms:9.1f} {without_ms:11.1f} {with_ms / without_ms - 1:+7.1%}"
        print(f"{name:22} {timed} {with_flops / without_flops - 1:+7.2%}", flush=True)
    return 0


def _train(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
    """Prints operations, time, memory and rate of a step that trains an adapter."""
    meta = torch.device("meta")
    operations = _flops(_training_step(args, meta, dtype)[0])
    if device.type == "meta":
        print(f"operations a step   {operations / 1e12:.3f} TFLOP, those that checkpointing repeats included")
        return
    step, model = _training_step(args, device, dtype)
    trained, frozen = (sum(v.numel() for v in model.parameters() if v.requires_grad == kind) for kind in (True, False))
    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    step_ms, product_ms = _measure([step, lambda: matrix @ matrix], args.runs, device)
    rate, most = operations / step_ms / 1e9, 2 * size**3 / product_ms / 1e9
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 2**20 * peak_memory_mb()
    print(f"weights             {trained / 1e6:.1f} M trained, {frozen / 1e6:.1f} M frozen")
    print(f"operations a step   {operations / 1e12:.3f} TFLOP, those that checkpointing repeats included")
    print(f"time of a step      {step_ms:.1f} ms")
    print(f"memory at most      {peak / 1e9:.2f} GB")
    print(
        f"rate                {rate:.3f} TFLOP/s, {rate / most:.0%} of what a product of {size} x {size} matrices reaches"
    )


def _training_step(
    args: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], object], AvatarTransformer3DModel]:
    """Forward and backward pass and AdamW, the adapter in float32 on a frozen backbone in `dtype`; and the model."""
    model, (spoken, _), latents, timestep = _parts(args.adapter, args, device, dtype)
    for name, value in model.named_parameters():
        value.requires_grad_(".adapters." in name)
        if value.requires_grad:
            value.data = value.data.float()
    if args.checkpointing:
        model.enable_gradient_checkpointing()
    optimiser = torch.optim.AdamW([value for value in model.train().parameters() if value.requires_grad], 1e-4)
    is_mixed = dtype == torch.bfloat16

    def step() -> None:
        with torch.autocast("cpu" if device.type == "meta" else device.type, torch.bfloat16, enabled=is_mixed):
            velocity = model(latents, timestep, spoken, return_dict=False)[0]
        velocity.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step, model


def _steps(name: str, args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> list[Callable[[], object]]:
    """A step with the adapter, and the same one without."""
    model, conditionings, latents, timestep = _parts(name, args, device, dtype)

    def step(told: Conditioning) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return model(latents, timestep, told, return_dict=False)

        return run

    return [step(told) for told in conditionings]


def _parts(
    name: str, args: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[AvatarTransformer3DModel, list[Conditioning], torch.Tensor, torch.Tensor]:
    """The model, conditions with the adapter's sound and without, and what goes in."""
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
    return model, [spoken, plain], latents, timestep


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


def _flops(step: Callable[[], object]) -> int:
    """Operations of matrices; attention as its two products, which a fused one would hide."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


if __name__ == "__main__":
    sys.exit(main())
