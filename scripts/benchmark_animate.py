"""Times `avatar animate` from a cold start to the finished mp4, and prints a Markdown table.

Each case runs in a process of its own, so that start-up and peak memory are its own too. The speech is the shipped
example, repeated. Cold start: from the process's start to a loaded pipeline. First frame: from the call to the first
block of frames. Real-time factor: seconds of video made per second from the call to the finished file, encoding
included; start-up is not. CPU: seconds of processor time per second of video, all threads, which another load on the
machine changes less. Speech to motion: the part of it that the networks take, measured in a pass of its own without
rendering. With `--runtime torch openvino` every case is run on both; the graphs are made beforehand.

    python scripts/benchmark_animate.py [--durations 10 60 600] [--sizes 512 own] [--runtime torch openvino]
                                        [--portrait P] [--json OUT.json]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import wave
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STARTED_AT = "BENCHMARK_STARTED_AT"  # the environment variable that carries the parent's clock to the measured process

# What is timed: name, module, qualified name. The encoder runs in its own thread beside the others.
STAGES = (
    ("find the face", "avatar.identity.mediapipe_faces", "MediaPipeFaces.detect"),
    ("person mask", "avatar.identity.mediapipe_faces", "MediaPipeFaces.person_mask"),
    ("set up the stage", "avatar.codec.mesh.renderer", "Stage.__init__"),
    ("speech encoder", "transformers", "Wav2Vec2Model.forward"),
    ("audio projector", "avatar.audio.projector", "AudioProjector.forward"),
    ("transformer", "avatar.dit.transformer", "AvatarTransformer3DModel.forward"),
    ("speech encoder, graph", "avatar.runtime", "GraphSpeechEncoder.__call__"),
    ("transformer, graph", "avatar.runtime", "GraphTransformer.__call__"),
    ("render", "avatar.codec.mesh.renderer", "Stage.draw"),
    ("encode (own thread)", "avatar.media.writer", "_Encoder.encode"),
)


def main() -> int:
    args = _parse_arguments()
    if args.measure:
        print(json.dumps(_measure(**json.loads(args.measure))))
        return 0
    _make_graphs(args.preset, args.runtime)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for duration_s in args.durations:
            speech = _repeat_speech(Path(folder) / f"{duration_s:g}s.wav", duration_s)
            for size_px in _distinct_sizes(args.sizes, args.portrait):
                for runtime in args.runtime:
                    options = {"portrait": str(args.portrait), "speech": str(speech), "size_px": size_px}
                    options |= {"preset": args.preset, "runtime": runtime, "out": str(Path(folder) / "out.mp4")}
                    print(f"{duration_s:g} s at {size_px or 'own size'}, {runtime} …", file=sys.stderr)
                    cases.append(_in_fresh_process(options))
    machine = _describe_machine()
    _print_report(machine, cases)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "cases": cases}, indent=1), encoding="utf-8")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--durations", type=float, nargs="+", default=[10, 60, 600], help="seconds of speech")
    parser.add_argument("--sizes", nargs="+", default=["512", "own"], help="longer side in px, or own: the picture's")
    parser.add_argument("--portrait", type=Path, default=EXAMPLES / "astronaut.png")
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--runtime", nargs="+", choices=("torch", "openvino"), default=["torch"])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one case, in this process
    return parser.parse_args()


def _make_graphs(preset: str, runtimes: list[str]) -> None:
    """Fills the cache, so that a cold start is what it is from the second time on."""
    from avatar.pipeline import AvatarPipeline

    for runtime in runtimes:
        if runtime != "torch":
            AvatarPipeline.from_pretrained(preset, runtime=runtime)


def _distinct_sizes(sizes: list[str], portrait: Path) -> list[int | None]:
    """The sizes asked for; "own" is left out where it says the same as a number."""
    from avatar.media import read_picture

    own_px = max(read_picture(portrait).shape[:2])
    numbers = [None if size == "own" else int(size) for size in sizes]
    if None in numbers and own_px in numbers:
        print(f"the picture's own size is {own_px} px, so it is not measured twice", file=sys.stderr)
        numbers.remove(None)
    return numbers


def _repeat_speech(path: Path, duration_s: float) -> Path:
    with wave.open(str(EXAMPLES / "hello.wav")) as source:
        params, once = source.getparams(), source.readframes(source.getnframes())
    num_bytes = round(duration_s * params.framerate) * params.sampwidth * params.nchannels
    with wave.open(str(path), "wb") as target:
        target.setparams(params)
        target.writeframes((once * (num_bytes // len(once) + 1))[:num_bytes])
    return path


def _in_fresh_process(options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", json.dumps(options)]
    environment = os.environ | {STARTED_AT: repr(time.time())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"a case failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(portrait: str, speech: str, size_px: int | None, preset: str, runtime: str, out: str) -> dict[str, Any]:
    """One case in this process, which was started for it."""
    from avatar.evaluate.memory import peak_memory_mb
    from avatar.media import write_video
    from avatar.pipeline import AvatarPipeline

    pipe = AvatarPipeline.from_pretrained(preset, runtime=runtime)
    cold_start_s = time.time() - float(os.environ[STARTED_AT])
    spent_s = _time_stages()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    first_frame_s = 0.0

    def timed(blocks: Iterator[Any]) -> Iterator[Any]:
        nonlocal first_frame_s
        for block in blocks:
            first_frame_s = first_frame_s or time.perf_counter() - start_s
            yield block

    stream = pipe.stream(portrait=Path(portrait), speech=Path(speech), size_px=size_px)
    write_video(out, timed(iter(stream)), fps=stream.shape.fps, speech=stream.speech, overwrite=True)
    total_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    peak_mb = peak_memory_mb()
    stages_s = dict(spent_s)
    motion_s = _cpu_s(lambda: pipe(Path(portrait), Path(speech), size_px=size_px))
    motion_s -= _cpu_s(lambda: pipe.stream(Path(portrait), Path(speech), size_px=size_px))  # the set-up alone
    return {
        "runtime": runtime,
        "video_s": stream.shape.duration_s,
        "frames": stream.shape.num_frames,
        "size": f"{stream.shape.width_px}x{stream.shape.height_px}",
        "cold_start_s": cold_start_s,
        "first_frame_s": first_frame_s,
        "total_s": total_s,
        "frames_per_s": stream.shape.num_frames / total_s,
        "real_time_factor": stream.shape.duration_s / total_s,
        "cpu_per_video_s": cpu_s / stream.shape.duration_s,
        "motion_cpu_per_video_s": motion_s / stream.shape.duration_s,
        "peak_memory_mb": peak_mb,
        "stages_s": stages_s,
    }


def _cpu_s(work: Callable[[], Any]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def _time_stages() -> dict[str, float]:
    """Wraps every stage; the returned dictionary grows as they run. Seconds of the thread that runs the stage."""
    spent_s: dict[str, float] = defaultdict(float)
    for name, module, qualified_name in STAGES:
        *owners, attribute = qualified_name.split(".")
        owner = functools.reduce(getattr, owners, import_module(module))
        clock = time.thread_time if "own thread" in name else time.perf_counter  # that one waits for the others
        setattr(owner, attribute, _timed(getattr(owner, attribute), name, spent_s, clock))
    return spent_s


def _timed(function: Callable, name: str, spent_s: dict[str, float], clock: Callable[[], float]) -> Callable:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start_s = clock()
        try:
            return function(*args, **kwargs)
        finally:
            spent_s[name] += clock() - start_s

    return wrapper


def _describe_machine() -> dict[str, str]:
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo, memory = Path("/proc/cpuinfo"), "unknown"
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GB"
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _print_report(machine: dict[str, str], cases: list[dict[str, Any]]) -> None:
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    print()
    columns = (
        ("video", lambda c: f"{c['video_s']:.0f} s"),
        ("size", lambda c: c["size"]),
        ("runtime", lambda c: c["runtime"]),
        ("cold start", lambda c: f"{c['cold_start_s']:.1f} s"),
        ("first frame", lambda c: f"{c['first_frame_s']:.2f} s"),
        ("frames/s", lambda c: f"{c['frames_per_s']:.0f}"),
        ("real-time factor", lambda c: f"{c['real_time_factor']:.2f}"),
        ("CPU per second of video", lambda c: f"{c['cpu_per_video_s']:.2f} s"),
        ("of it speech to motion", lambda c: f"{c['motion_cpu_per_video_s']:.3f} s"),
        ("peak memory", lambda c: f"{c['peak_memory_mb']:.0f} MB"),
    )
    _print_table([head for head, _ in columns], [[show(case) for _, show in columns] for case in cases])
    print("\nWhere the time goes, in milliseconds per frame (set-up: in seconds, once):\n")
    once = ("find the face", "person mask", "set up the stage")
    heads = ["stage"] + [f"{case['video_s']:.0f} s, {case['size']}, {case['runtime']}" for case in cases]
    lines = []
    for name, _, _ in STAGES:
        spent = [case["stages_s"].get(name, 0.0) for case in cases]
        if not any(spent):  # of the runtime that was not asked for
            continue
        if name in once:
            lines.append([name] + [f"{seconds:.2f} s" for seconds in spent])
        else:
            lines.append([name] + [f"{1e3 * s / case['frames']:.2f}" for s, case in zip(spent, cases, strict=True)])
    lines.append(["all, end to end"] + [f"{1e3 * case['total_s'] / case['frames']:.2f}" for case in cases])
    _print_table(heads, lines)


def _print_table(heads: list[str], lines: list[list[str]]) -> None:
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    sys.exit(main())
