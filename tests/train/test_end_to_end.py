"""From videos to a model to a video, through the command line, with a tiny model."""

from __future__ import annotations

import wave
from pathlib import Path

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
