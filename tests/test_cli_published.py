"""Published presets through the command line, on tiny models of the real classes: a film with its sound, or one line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avatar import AvatarPipeline
from avatar.cli import main
from avatar.debug import DEBUG_SYSTEMS, write_debug_files
from avatar.dit.published import PUBLISHED_PRESETS
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import MissingDependencyError, OptionError
from avatar.media import read_picture, write_picture
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.reference import attach_reference
from avatar.wan.reference_file import save_reference

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PORTRAIT, HELLO = EXAMPLES / "astronaut.png", EXAMPLES / "hello.wav"
SECONDS = 0.6
SMALL = ["--size", "32", "--steps", "1"]


def _wav(path: Path, seconds: float = SECONDS, seed: int = 0, rate_hz: int = 16_000) -> Path:
    noise = np.random.default_rng(seed).normal(size=round(seconds * rate_hz)) * 3000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(noise.astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wav(tmp_path_factory.mktemp("speech") / "speech.wav")


@pytest.fixture(scope="module")
def portrait() -> Path:
    return PORTRAIT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_debug_files(tmp_path_factory.mktemp("fetched") / "files", "echomimic-v3")


def _film(path: Path) -> tuple[np.ndarray, float, float]:
    """Frames, rate, and seconds of sound."""
    with av.open(str(path)) as film:
        video, audio = film.streams.video[0], film.streams.audio[0]
        seconds = float(audio.duration * audio.time_base)
        return np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video)]), float(video.average_rate), seconds


def _refused(argv: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """The one line of a run that fails."""
    assert main(argv) == code
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    (line,) = re.findall("^avatar: error: (.*)", printed.err, flags=re.MULTILINE)
    return line


def test_there_is_a_debug_system_for_every_published_preset() -> None:
    assert set(DEBUG_SYSTEMS) == set(PUBLISHED_PRESETS)


@pytest.mark.parametrize("system", PUBLISHED_PRESETS)
def test_each_preset_makes_a_film_with_its_sound(
    system: str, portrait: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert main(["animate", str(portrait), str(speech), "-o", str(out), "--preset", f"debug:{system}", *SMALL]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "tiny random weights" in printed.err and "step 1 of 1" in printed.err
    frames, fps, seconds = _film(out)
    assert fps == PUBLISHED_PRESETS[system].front_end.fps
    assert frames.shape == (round(SECONDS * fps), 32, 32, 3)
    assert seconds == pytest.approx(SECONDS, abs=0.05)


def test_long_speech_is_made_in_chunks_and_steps_are_counted_over_all(
    portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    argv = ["animate", str(portrait), str(HELLO), "-o", str(out), "--preset", "debug:infinitetalk", *SMALL]
    assert main(argv) == 0
    assert re.search("step 1 of 2, about [0-9]+ s left", capsys.readouterr().err)
    frames, fps, seconds = _film(out)
    assert len(frames) / fps == pytest.approx(seconds, abs=0.1) and len(frames) > 81


def test_a_fetched_folder_is_a_preset_with_all_its_options(folder: Path, portrait: Path, tmp_path: Path) -> None:
    two = np.concatenate([read_picture(portrait)] * 2, axis=1)
    both = write_picture(tmp_path / "both.png", two)
    sounds = [_wav(tmp_path / f"{seed}.wav", 0.2, seed) for seed in range(3)]

    def film(her: Path, prompt: str = "two people", memory: str = "low") -> np.ndarray:
        out = tmp_path / "out.mp4"
        argv = ["animate", str(both), str(sounds[0]), "-o", str(out), "--overwrite", "--preset", str(folder)]
        argv += f"--size 64 --steps 2 --face left --seed 3 --memory {memory}".split()
        argv += ["--speaker", f"right={her}", "--prompt", prompt, "--negative-prompt", "blur"]
        assert main([*argv, "--guidance", "2", "--text-guidance", "3"]) == 0
        return _film(out)[0]

    first = film(sounds[1])
    assert first.shape == (5, 32, 64, 3)
    assert np.array_equal(film(sounds[1]), first)
    assert not np.array_equal(film(sounds[2]), first)
    assert not np.array_equal(film(sounds[1], prompt="nobody"), first)
    assert not np.array_equal(film(sounds[1], memory="fast"), first)  # 8 bits are not 32


def test_drawn_masks_say_who_speaks_where(folder: Path, tmp_path: Path) -> None:
    picture = np.concatenate([read_picture(PORTRAIT)] * 2, axis=1)
    both, out = write_picture(tmp_path / "both.png", picture), tmp_path / "out.mp4"
    left = np.zeros_like(picture)
    left[50:350, 100:400] = 255
    masks = [write_picture(tmp_path / f"{side}.png", m) for side, m in (("l", left), ("r", np.roll(left, 512, axis=1)))]
    sounds = [_wav(tmp_path / f"{seed}.wav", 0.2, seed) for seed in range(2)]
    argv = [
        "animate",
        str(both),
        str(sounds[0]),
        "-o",
        str(out),
        "--preset",
        str(folder),
        "--size",
        "64",
        "--steps",
        "1",
    ]
    argv += ["--speaker", f"mask={sounds[1]}", "--mask", str(masks[0])]
    assert main([*argv, "--mask", str(masks[1])]) == 0
    assert _film(out)[0].shape == (5, 32, 64, 3)
    assert main([*argv, "--overwrite"]) == 2  # two speakers, one mask
    assert main([*argv, "--overwrite", "--mask", "missing.png"]) == 2


def test_python_gives_a_published_pipeline_under_the_same_name(folder: Path, portrait: Path, speech: Path) -> None:
    told: list[str] = []
    pipe = AvatarPipeline.from_pretrained(f"{folder}:echomimic-v3", memory="fast", notify=told.append)
    assert isinstance(pipe, WanAvatarPipeline) and pipe.preset.name == "echomimic-v3"
    assert told == ["tiny random weights stand in for EchoMimicV3 preview: the video is noise"]
    clip = pipe(portrait=portrait, speech=speech, seed=1, size_px=32, num_inference_steps=1)
    blocks = pipe.stream(portrait=portrait, speech=speech, seed=1, size_px=32, num_inference_steps=1)
    assert np.array_equal(clip.frames(), np.concatenate(list(blocks)))


def test_bfloat16_as_on_a_gpu_runs_too(folder: Path, portrait: Path, speech: Path) -> None:
    pipe = AvatarPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    assert pipe.transformer.dtype == pipe.audio_projector.dtype == torch.bfloat16
    assert pipe.vae.dtype == pipe.speech_encoder.dtype == torch.float32
    clip = pipe(portrait=portrait, speech=speech, size_px=32, num_inference_steps=1)
    assert clip.frames().shape == (15, 32, 32, 3)


def test_how_it_is_guided_and_cut_can_be_said(portrait: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    argv = ["animate", str(portrait), str(speech), "-o", str(out), "--overwrite", "--preset", "debug:echomimic-v3"]
    argv += ["--size", "32", "--steps", "4"]

    def film(*more: str) -> np.ndarray:
        assert main([*argv, *more]) == 0
        return _film(out)[0]

    plain = film()
    ways = [
        "--guidance-kind plain",
        "--shift 1",
        "--sampler unipc",
        "--long-video shifted --shift 2",
        "--colour-match 1",
        "--handover latents",
    ]
    assert all(not np.array_equal(film(*way.split()), plain) for way in ways)


def test_who_brings_an_adapter_for_emotion_may_ask_for_one(folder: Path, tmp_path: Path) -> None:
    base = AvatarTransformer3DModel.from_wan(folder / PUBLISHED_PRESETS["echomimic-v3"].base.download.repository)
    attach_reference(base, identity="features")
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(30.0)
    reference, out = save_reference(base, tmp_path / "reference.safetensors"), tmp_path / "out.mp4"
    argv = ["animate", str(PORTRAIT), str(_wav(tmp_path / "s.wav", 0.1)), "-o", str(out), "--overwrite"]
    argv += ["--preset", str(folder), "--size", "64", "--steps", "1", "--reference", str(reference)]
    films = []
    for emotion in ([], ["--emotion", "happy"], ["--emotion", str(PORTRAIT)], ["--emotion", "auto"]):
        assert main([*argv, *emotion]) == 0
        films.append(_film(out)[0])
    assert not any(np.array_equal(films[0], film) for film in films[1:])
    assert not np.array_equal(films[1], films[2])
    assert main([*argv, "--emotion", "peckish"]) == 2


def test_the_list_of_presets_does_without_torch() -> None:
    code = "import sys; from avatar.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for name in ([], ["infinitetalk"]):
        done = subprocess.run([sys.executable, "-c", code, "presets", *name], capture_output=True, text=True)
        assert done.returncode == 0 and "infinitetalk" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("preset", "options", "words"),
    [
        (
            "debug:echomimic-v3",
            ["--emotion", str(PORTRAIT)],
            "has no --emotion; it takes --seed, --size, --face, --speaker",
        ),
        ("debug:multitalk", ["--head-motion", "0.5"], "has no --head-motion; it takes"),
        ("debug:multitalk", ["--runtime", "openvino"], "has no --runtime; it takes"),
        ("debug:multitalk", ["--memory", "balanced"], "there is none here"),
        ("debug:echomimic-v3-flash", ["--text-guidance", "2"], "has no --text-guidance; it takes"),
        ("debug:echomimic-v3-flash", ["--negative-prompt", "blur"], "has no --negative-prompt; it takes"),
        ("embedded", ["--prompt", "a sunny day", "--memory", "low"], "'embedded' has no --prompt, --memory; it takes"),
        ("debug", ["--text-guidance", "2"], "'debug' has no --text-guidance; it takes"),
        ("embedded", ["--mask", "faces"], "'embedded' has no --mask; it takes"),
        ("debug:nonsense", [], "names no published preset; accepted after debug: fantasytalking"),
        ("nonsense", [], "'nonsense' is neither a preset nor a folder"),
        ("nowhere:multitalk", [], "there is no folder nowhere"),
        ("debug:multitalk", ["--seed", "-1"], "seed must lie between"),
        ("debug:multitalk", ["--steps", "0"], "num_inference_steps must be 1 or more"),
        ("debug:multitalk", ["--size", "8"], "longer side must be 16 px or more"),
        ("debug:multitalk", ["--guidance", "nan"], "audio_guidance_scale must lie between 0 and 20, not nan"),
        ("debug:multitalk", ["--text-guidance", "-1"], "text_guidance_scale must lie between 0 and 20, not -1"),
        ("debug:multitalk", ["--prompt", "a" * 600], "the prompt has 602 tokens"),
        ("debug:multitalk", ["--shift", "0"], "the shift of the noise levels must lie above 0, up to 100, not 0"),
        (
            "debug:multitalk",
            ["--guidance-kind", "falling"],
            "falling guidance goes with branches nested text_then_audio",
        ),
        ("debug:multitalk", ["--long-video", "windows", "--handover", "pixels"], "handover is between chunks"),
        ("debug:multitalk", ["--reference", "nowhere.safetensors"], "there is no file nowhere.safetensors"),
        ("embedded", ["--shift", "2", "--reference", "x"], "'embedded' has no --shift, --reference; it takes"),
        ("debug:multitalk", ["--speaker", f"1={HELLO}"], "two speakers have the same face"),
    ],
    ids=lambda value: "_".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_a_preset_does_not_take_is_one_line(
    preset: str,
    options: list[str],
    words: str,
    portrait: Path,
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["animate", str(portrait), str(speech), "-o", str(tmp_path / "out.mp4"), "--preset", preset, *options]
    assert words in _refused(argv, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def _animate(preset: str | Path) -> list[str]:
    return ["animate", str(PORTRAIT), str(HELLO), "-o", "never.mp4", "--preset", str(preset), *SMALL]


def test_parts_that_are_not_there_are_named_with_what_to_do(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "facebook")
    (copy / "Wan-AI" / "Wan2.1-I2V-14B-480P-Diffusers" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    line = _refused(_animate(copy), capsys, code=1)
    assert line.startswith("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers, facebook/wav2vec2-base-960h: not (completely) in ")
    assert f"`avatar fetch echomimic-v3 --to {copy}`" in line and "debug:echomimic-v3" in line


def test_a_damaged_or_wrong_file_is_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = copy / "BadToBest" / "EchoMimicV3" / "transformer" / "diffusion_pytorch_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:5000])
    assert "cannot be read" in _refused(_animate(copy), capsys)
    shutil.copy(copy / "alibaba-pai" / "Wan2.1-Fun-V1.1-1.3B-InP" / adapter.name, adapter)
    assert "this is no adapter file of EchoMimicV3 preview" in _refused(_animate(copy), capsys)


def test_a_folder_of_several_presets_asks_for_a_name(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flash = PUBLISHED_PRESETS["echomimic-v3-flash"].adapter
    target = copy / flash.repository / flash.files[0]
    target.parent.mkdir(parents=True)
    target.touch()
    line = _refused(_animate(copy), capsys)
    assert f"holds several presets; name one: {copy}:echomimic-v3, {copy}:echomimic-v3-flash" in line


def test_a_wan_repository_alone_has_no_voice(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanImageToVideoPipeline"}))
    with pytest.raises(OptionError, match="holds a WanImageToVideoPipeline, which is a model without a voice"):
        AvatarPipeline.from_pretrained(tmp_path)
    monkeypatch.setattr("avatar.pipeline.check_runtime", lambda name: None)  # as if OpenVINO were installed
    with pytest.raises(OptionError, match="published ones take torch"):
        AvatarPipeline.from_pretrained(folder, runtime="openvino")


def test_without_files_the_ways_to_get_them_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MissingDependencyError, match="`avatar fetch multitalk` gets what multitalk needs .up to 102 GB"
    ):
        AvatarPipeline.from_pretrained("multitalk")
