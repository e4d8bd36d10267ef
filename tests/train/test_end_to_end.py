"""From videos to a model to a video, through the command line, with a tiny model."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from avatar.cli import main
from avatar.data.clip_dataset import ClipStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETTINGS = [
    "model.init=debug", "data.latent_frames=5", "data.context_frames=2", "loop.steps=4", "loop.batch_size=2", "loop.workers=0",
    "loop.checkpoint_steps=2", "loop.held_out_steps=2", "optimiser.warmup_steps=1", "balance.by=['emotion']",
    "data.speech_variants=1", "data.held_out_share=0.5", "log.trackers=[]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_videos_to_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips, run, hello = tmp_path / "clips", tmp_path / "run", tmp_path / "hello.wav"
    clips.mkdir()
    with wave.open(str(EXAMPLES / "hello.wav")) as whole, wave.open(str(hello), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(round(1.6 * whole.getframerate())))
    for seed, emotion in enumerate(("happy", "sad")):
        argv = [
            "animate",
            str(EXAMPLES / "astronaut.png"),
            str(EXAMPLES / "hello.wav"),
            "-o",
            str(clips / f"{emotion}.mp4"),
        ]
        assert main([*argv, "--size", "384", "--seed", str(seed), "--emotion", emotion]) == 0
    (clips / "silent.mp4").write_bytes(b"no video")
    rows = "".join(f"{emotion}.mp4,{emotion},{emotion}\n" for emotion in ("happy", "sad"))
    (clips / "manifest.csv").write_text(f"path,emotion,identity\n{rows}silent.mp4,sad,nobody\n")
    changes = [part for change in [f"out={run}", f"data.sources=['{clips}']", *SETTINGS] for part in ("--set", change)]
    capsys.readouterr()
    assert main(["train", "embedded-own-footage", *changes, "--prepare"]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(run / "cache/clips") and "silent is left out: " in told.err
    store = ClipStore(run / "cache/clips")
    assert [entry.labels["emotion"] for entry in store.entries] == ["happy", "sad"]
    assert store.names(0) == {
        "groups0",
        "groups1",
        "groups2",
        "groups3",
        "singles",
        "features0",
        "features1",
        "identity",
    }
    assert main(["train", "embedded-own-footage", *changes]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(run / "latest/model") and "step 4 of 4" in told.err
    assert main(["train", "embedded-own-footage", *changes]) == 2
    assert "go on with it (--resume)" in capsys.readouterr().err
    out = tmp_path / "out.mp4"
    argv = ["animate", str(EXAMPLES / "astronaut.png"), str(hello), "-o", str(out)]
    assert main([*argv, "--preset", str(run / "latest/model"), "--size", "128"]) == 0
    assert out.stat().st_size > 5_000


FROM_RAW = [
    "model.hidden_size=64", "model.num_layers=2", "model.ffn_dim=128", "model.token_dim=64", "data.latent_frames=9",
    "data.context_frames=3", "data.speech_variants=0", "data.held_out_share=0", "loop.batch_size=8", "loop.workers=0",
    "loop.checkpoint_steps=1000", "balance.by=[]", "balance.dynamic_rate=0", "optimiser.learning_rate=3e-3",
    "optimiser.warmup_steps=10", "optimiser.ema_decay=0.9", "log.trackers=[]",
]  # fmt: skip


def voice(source: Path, out: Path, rate: float) -> None:
    """Somebody else's voice: faster and higher, or slower and lower."""
    with wave.open(str(source)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        rate_hz = file.getframerate()
    length = int(len(samples) / rate)
    with wave.open(str(out), "wb") as file:
        file.setparams((1, 2, rate_hz, length, "NONE", ""))
        file.writeframes(
            np.interp(np.arange(length) * rate, np.arange(len(samples)), samples).astype(np.int16).tobytes()
        )


def sync_of(videos: Path, out: Path, config: Path) -> dict[str, tuple[float, float, bool]]:
    """What curation's scorer says of some videos: its confidence, the offset in frames, and whether they would be kept."""
    config.write_text('lazy = false\nscorers = ["faces", "sync"]\n')
    assert main(["curate", str(videos), str(out), "--workers", "1", "--no-report", "--config", str(config)]) == 0
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    return {
        Path(row["source_uri"]).stem: (row["sync_conf"] or 0.0, row["sync_offset_frames"], row["keep"]) for row in rows
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_raw_videos_a_model_learns_to_move_its_lips_with_a_voice_it_has_not_heard(tmp_path: Path) -> None:
    """Videos are curated, a small model is trained on what is kept, and speaks what it was not trained on."""
    raw, results, portrait = tmp_path / "raw", tmp_path / "results", tmp_path / "face.png"
    raw.mkdir()
    results.mkdir()
    cv2.imwrite(str(portrait), cv2.imread(str(EXAMPLES / "astronaut.png"))[20:270, 100:350])
    for k, rate in enumerate((0.92, 1.1)):
        voice(EXAMPLES / "rainbow.wav", tmp_path / f"{k}.wav", rate)
        argv = ["animate", str(portrait), str(tmp_path / f"{k}.wav"), "-o", str(raw / f"{k}.mp4"), "--size", "384"]
        assert main([*argv, "--seed", str(k)]) == 0
    assert main(["curate", str(raw), str(tmp_path / "curated"), "--workers", "1", "--no-report"]) == 0
    assert sum(pq.read_table(tmp_path / "curated/manifest.parquet")["keep"].to_pylist()) == 2
    for name, steps in (("untrained", 1), ("trained", 300)):
        values = [f"out={tmp_path / name}", f"loop.steps={steps}", f"data.cache={tmp_path / 'cache'}",
                  f"data.sources=['{tmp_path / 'curated/shards'}']"]  # fmt: skip
        changes = [part for change in [*FROM_RAW, *values] for part in ("--set", change)]
        assert main(["train", "embedded-scratch", *changes]) == 0
        argv = [
            "animate",
            str(portrait),
            str(EXAMPLES / "hello.wav"),
            "-o",
            str(results / f"{name}.mp4"),
            "--size",
            "384",
        ]
        assert main([*argv, "--preset", str(tmp_path / name / "latest/model")]) == 0
    judged = sync_of(results, tmp_path / "judged", tmp_path / "judge.toml")
    print(judged)
    assert judged["trained"][0] > judged["untrained"][0] + 0.1
    assert abs(judged["trained"][1]) <= 2
    assert judged["trained"][2] and not judged["untrained"][2]
