"""The whole pipeline, with the real classes at a tiny size and random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar import AvatarPipeline, presets
from avatar.clip import VideoClip
from avatar.codec.mesh.renderer import Stage
from avatar.errors import FaceError, MediaError, MissingDependencyError, OptionError, SeveralFacesError
from avatar.identity.choose import load_portrait
from avatar.media import read_picture, write_picture
from avatar.pipeline import debug_pipeline
from avatar.types import MODEL_SAMPLE_RATE_HZ, BBox, Portrait, Waveform

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PHOTO, HELLO = EXAMPLES / "astronaut.png", EXAMPLES / "hello.wav"
SIZE_PX = 128


def _sound(seconds: float, rate_hz: int = MODEL_SAMPLE_RATE_HZ, seed: int = 0) -> Waveform:
    """Noise in syllables."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).normal(size=len(t)) * 0.1 * np.sin(2 * np.pi * 2 * t) ** 2
    return Waveform(noise.astype(np.float32), rate_hz)


@pytest.fixture(scope="module")
def pipe() -> AvatarPipeline:
    return AvatarPipeline.from_pretrained("debug")


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(PHOTO)


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photo = read_picture(PHOTO)
    return write_picture(tmp_path_factory.mktemp("two") / "two.png", np.concatenate([photo, photo[:, ::-1]], axis=1))


def _video(pipe: AvatarPipeline, portrait: Any, speech: Any = None, **options: Any) -> np.ndarray:
    return pipe(portrait, _sound(0.8) if speech is None else speech, **{"size_px": SIZE_PX, **options}).frames()


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(("seconds", "num_frames"), [(0.02, 1), (0.05, 1), (0.21, 5), (1.0, 25), (2.03, 51)])
def test_the_video_is_as_long_as_the_sound(
    pipe: AvatarPipeline, portrait: Portrait, seconds: float, num_frames: int
) -> None:
    clip = pipe(portrait, _sound(seconds), size_px=64)
    frames = clip.frames()
    assert clip.shape.num_frames == len(frames) == num_frames
    assert clip.shape.fps == 25
    assert frames.dtype == np.uint8 and frames.shape[1:] == (clip.shape.height_px, clip.shape.width_px, 3)


@pytest.mark.parametrize("num_samples", [1, 7, 319, 640])
def test_a_few_samples_are_one_frame(pipe: AvatarPipeline, portrait: Portrait, num_samples: int) -> None:
    for rate_hz in (16_000, 48_000):
        assert len(_video(pipe, portrait, Waveform(np.full(num_samples, 0.1, np.float32), rate_hz), size_px=64)) == 1


def test_the_first_frame_is_the_photo(pipe: AvatarPipeline, portrait: Portrait) -> None:
    frames = pipe(portrait, _sound(0.1)).frames()
    assert frames[0].shape == portrait.image.shape
    assert np.abs(frames[0].astype(int) - portrait.image).mean() <= 0.05


def test_the_face_moves_and_the_background_does_not(pipe: AvatarPipeline, portrait: Portrait) -> None:
    frames = _video(pipe, portrait)
    deviation = frames.std(axis=0).max(axis=-1)
    assert deviation.max() > 5
    assert deviation[:, 112:].max() == 0  # the shuttle's side of the photo


def test_the_same_seed_gives_the_same_video_and_another_another(pipe: AvatarPipeline, portrait: Portrait) -> None:
    one, same, other = (_video(pipe, portrait, seed=seed) for seed in (3, 3, 4))
    assert _difference(one, same) == 0
    assert _difference(one[1:], other[1:]) > 5


def test_iterating_twice_gives_the_same_frames(pipe: AvatarPipeline, portrait: Portrait) -> None:
    clip = pipe.stream(portrait, _sound(0.8), size_px=SIZE_PX)
    assert _difference(clip.frames(), clip.frames()) == 0


def test_streamed_equals_made_at_once(pipe: AvatarPipeline, portrait: Portrait) -> None:
    speech = _sound(2.6)  # more than one chunk
    clip = pipe.stream(portrait, speech, size_px=SIZE_PX, seed=1)
    blocks = list(clip)
    assert len(blocks) > 1
    assert _difference(np.concatenate(blocks), _video(pipe, portrait, speech, seed=1)) == 0


def test_undrawn_motion_is_the_motion_that_is_drawn(pipe: AvatarPipeline, portrait: Portrait) -> None:
    speech = _sound(2.6)
    (motion,) = pipe.motion(portrait, speech, size_px=SIZE_PX, seed=1)
    frames = pipe.codec.stage(portrait, SIZE_PX).render(motion)
    assert _difference(frames, _video(pipe, portrait, speech, seed=1)) == 0


def test_two_streams_at_once_do_not_disturb_each_other(pipe: AvatarPipeline, portrait: Portrait) -> None:
    clip = pipe.stream(portrait, _sound(2.6), size_px=64)
    pairs = [(a.copy(), b.copy()) for a, b in zip(clip, clip, strict=True)]
    expected = clip.frames()
    for k in (0, 1):
        assert _difference(np.concatenate([pair[k] for pair in pairs]), expected) == 0


def test_a_stream_makes_nothing_before_it_is_asked(
    pipe: AvatarPipeline, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    hook = pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    blocks: Iterator[np.ndarray] = iter(pipe.stream(portrait, _sound(8.0), size_px=64, num_inference_steps=1))
    assert not calls
    next(blocks)
    hook.remove()
    assert 1 <= len(calls) <= 2  # one chunk, with and without sound


@pytest.mark.slow
def test_a_stream_left_unfinished_ends_quietly_with_the_program() -> None:
    program = (
        "from avatar.pipeline import debug_pipeline\n"
        f"blocks = iter(debug_pipeline().stream({str(PHOTO)!r}, {str(HELLO)!r}, size_px=64))\n"
        "next(blocks)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Exception ignored" not in done.stderr and "Traceback" not in done.stderr


def test_no_gradients_are_kept_and_the_callers_mode_is_left_alone(pipe: AvatarPipeline, portrait: Portrait) -> None:
    seen: list[bool] = []
    hook = pipe.transformer.register_forward_hook(lambda _, __, output: seen.append(output[0].requires_grad))
    for _ in pipe.stream(portrait, _sound(2.6), size_px=64):
        assert torch.is_grad_enabled()
    hook.remove()
    assert seen and not any(seen)


def test_a_longer_sound_begins_the_same_video(pipe: AvatarPipeline, portrait: Portrait) -> None:
    """Nothing later than a chunk and its audio margin is looked at."""
    long = _sound(9.0)
    short = Waveform(long.samples[: 8 * MODEL_SAMPLE_RATE_HZ])
    pair = [next(iter(pipe.stream(portrait, sound, size_px=64))) for sound in (long, short)]
    shared = min(len(block) for block in pair)
    assert np.abs(pair[0][:shared].astype(int) - pair[1][:shared]).mean() < 0.5


def test_saved_and_loaded_it_makes_the_same_video(pipe: AvatarPipeline, portrait: Portrait, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "AvatarPipeline"
    assert index["transformer"] == ["avatar", "AvatarTransformer3DModel"]
    assert index["speech_encoder"] == ["transformers", "Wav2Vec2Model"]
    loaded = AvatarPipeline.from_pretrained(tmp_path)
    assert not any(m.training for m in loaded.components.values())
    assert _difference(_video(loaded, portrait, emotion="sad"), _video(pipe, portrait, emotion="sad")) == 0


def test_weights_saved_in_half_precision_are_used_in_full(
    pipe: AvatarPipeline, portrait: Portrait, tmp_path: Path
) -> None:
    half = debug_pipeline()
    for component in half.components.values():
        component.half()
    half.save_pretrained(tmp_path)
    loaded = AvatarPipeline.from_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for m in loaded.components.values() for p in m.parameters())
    frames = _video(loaded, portrait)
    assert np.abs(frames[0].astype(int) - _video(pipe, portrait)[0]).mean() <= 0.05  # the codec's bases survive halving
    assert np.abs(frames.astype(int) - _video(pipe, portrait)).mean() < 2


def test_half_the_precision_runs_and_keeps_the_photo(pipe: AvatarPipeline, portrait: Portrait, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = AvatarPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.transformer.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    assert all(buffer.dtype != torch.bfloat16 for buffer in loaded.codec.buffers())
    frames, expected = _video(loaded, portrait, emotion="sad"), _video(pipe, portrait, emotion="sad")
    assert _difference(frames[:1], expected[:1]) <= 1
    assert np.abs(frames.astype(int) - expected).mean() < 2


@pytest.mark.parametrize(("size_px", "size"), [(64, (64, 64)), (101, (100, 100)), (None, (512, 512))])
def test_size_is_the_longer_side_and_sides_are_even(
    pipe: AvatarPipeline, portrait: Portrait, size_px: int | None, size: tuple[int, int]
) -> None:
    shape = pipe.stream(portrait, _sound(0.1), size_px=size_px).shape
    assert abs(shape.height_px - size[0]) <= 2 and abs(shape.width_px - size[1]) <= 2
    assert shape.height_px % 2 == shape.width_px % 2 == 0


def test_an_oblong_picture_keeps_its_shape(pipe: AvatarPipeline) -> None:
    shape = pipe.stream(read_picture(PHOTO)[:401, :333], _sound(0.1), size_px=200).shape
    assert (shape.height_px, shape.width_px) == (200, 166)


def test_a_portrait_is_a_path_text_an_array_or_a_portrait(pipe: AvatarPipeline, portrait: Portrait) -> None:
    expected = _video(pipe, portrait, size_px=64)
    for given in (PHOTO, str(PHOTO), read_picture(PHOTO)):
        assert _difference(_video(pipe, given, size_px=64), expected) == 0


def test_speech_is_a_path_text_or_a_waveform(pipe: AvatarPipeline, portrait: Portrait) -> None:
    by_path, by_text = (pipe.stream(portrait, given, size_px=64) for given in (HELLO, str(HELLO)))
    assert by_path.speech == by_text.speech == HELLO  # kept at its own quality
    assert by_path.shape == by_text.shape
    waveform = _sound(0.3, 44_100)
    assert pipe.stream(portrait, waveform, size_px=64).speech is waveform


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_a_waveform_may_have_any_rate(pipe: AvatarPipeline, portrait: Portrait, rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    tone = Waveform((0.2 * np.sin(2 * np.pi * 220 * t) * np.sin(2 * np.pi * 2 * t)).astype(np.float32), rate_hz)
    reference = (
        0.2 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000) * np.sin(2 * np.pi * 2 * np.arange(16_000) / 16_000)
    )
    frames = _video(pipe, portrait, tone, size_px=64)
    assert len(frames) == 25
    expected = _video(pipe, portrait, Waveform(reference.astype(np.float32)), size_px=64)
    assert np.abs(frames.astype(int) - expected).mean() < 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, np.float32), "the waveform is empty; it needs at least one sample"),
        (np.array([0.0, np.nan], np.float32), "holds NaN or infinite samples; clean it first"),
        (np.array([0.0, np.inf], np.float32), "holds NaN or infinite samples; clean it first"),
        (np.zeros(1600, np.int16), r"float samples in \[-1, 1\], not int16"),
    ],
)
def test_a_bad_waveform_is_refused(pipe: AvatarPipeline, portrait: Portrait, samples: np.ndarray, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        pipe(portrait, Waveform(samples))


@pytest.mark.parametrize("emotion", ["happy", "happy:0.6", "happy:0.5,surprised:0.3", "auto", str(PHOTO), PHOTO])
def test_emotion_in_every_way_it_may_be_said(pipe: AvatarPipeline, portrait: Portrait, emotion: str | Path) -> None:
    frames = _video(pipe, portrait, _sound(0.3), emotion=emotion, size_px=64)
    assert len(frames) == 8


def test_emotion_changes_the_video(pipe: AvatarPipeline, portrait: Portrait) -> None:
    assert _difference(_video(pipe, portrait, emotion="happy"), _video(pipe, portrait, emotion="sad")) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must lie between 0 and .*, not -1"),
        ({"seed": 2**63}, "seed must lie between 0 and"),
        ({"num_inference_steps": 0}, "num_inference_steps must lie between 1 and 1000, not 0"),
        ({"num_inference_steps": 1001}, "num_inference_steps must lie between 1 and 1000"),
        ({"guidance_scale": -0.1}, "guidance_scale must lie between 0 and 20, not -0.1; 1 is off"),
        ({"guidance_scale": float("nan")}, "guidance_scale must lie between 0 and 20"),
        ({"head_motion": 2.5}, r"head_motion must lie between 0 \(still\) and 2"),
        ({"head_motion": float("nan")}, "head_motion must lie between"),
        ({"emotion": "hapy"}, "'hapy' is neither an emotion nor a picture; accepted: neutral"),
        ({"emotion": "happy:2"}, "must lie between 0 and 1"),
        ({"size_px": 4}, "size_px must be at least 16, not 4"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_made(
    pipe: AvatarPipeline, portrait: Portrait, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        pipe.stream(portrait, _sound(0.1), **options)


def test_a_big_seed_is_a_seed(pipe: AvatarPipeline, portrait: Portrait) -> None:
    assert len(_video(pipe, portrait, _sound(0.2), seed=2**32 - 1, size_px=64)) == 5


def test_an_unknown_option_is_an_error(pipe: AvatarPipeline, portrait: Portrait) -> None:
    with pytest.raises(TypeError, match="emotoin"):
        pipe.stream(portrait, _sound(0.1), emotoin="happy")  # type: ignore[call-arg]


def test_head_motion_zero_holds_the_head_still(pipe: AvatarPipeline, portrait: Portrait) -> None:
    poses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "draw", lambda self, canvas, motion, index: poses.append(motion[index : index + 1]))
        for size in (0.0, 1.0):
            _video(pipe, portrait, head_motion=size)
    still, lively = poses[: len(poses) // 2], poses[len(poses) // 2 :]
    assert not any(pose.rotation.any() or pose.translation.any() for pose in still)
    assert any(pose.rotation.any() and pose.translation.any() for pose in lively)
    assert any(pose.gaze.any() for pose in still)


def test_a_picture_that_cannot_be_read_is_a_media_error(pipe: AvatarPipeline, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nobody.png"):
        pipe(tmp_path / "nobody.png", _sound(0.1))
    with pytest.raises(MediaError, match="nothing.wav"):
        pipe(PHOTO, tmp_path / "nothing.wav")


def test_a_name_that_is_no_preset_lists_the_presets() -> None:
    with pytest.raises(
        OptionError, match="'nonsense' is neither a preset nor a folder with a saved pipeline.*embedded, debug"
    ):
        AvatarPipeline.from_pretrained("nonsense")


def test_a_preset_whose_weights_are_gone_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presets, "_WEIGHTS", tmp_path)
    with pytest.raises(
        MissingDependencyError, match="the weights of preset 'embedded' are not in .*; reinstall avatar"
    ):
        AvatarPipeline.from_pretrained("embedded")


def test_of_two_people_one_must_be_chosen(pipe: AvatarPipeline, two_people: Path) -> None:
    with pytest.raises(SeveralFacesError):
        pipe.stream(two_people, _sound(0.1))
    with pytest.raises((OptionError, FaceError)):
        pipe.stream(two_people, _sound(0.1), face=9)


def _halves(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = frames.shape[2] // 2
    return frames[:, :, :middle], frames[:, :, middle:]


@pytest.fixture(scope="module")
def boxes(two_people: Path) -> tuple[BBox, BBox]:
    left = load_portrait(two_people, BBox(0, 0, 512, 512)).face.bbox
    right = load_portrait(two_people, BBox(512, 0, 1024, 512)).face.bbox
    return left, right


def test_the_chosen_person_speaks_and_the_other_is_still(
    pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]
) -> None:
    for index, box in enumerate(boxes):
        halves = _halves(_video(pipe, two_people, face=box, size_px=256))
        assert halves[index].std(axis=0).max() > 5
        assert halves[1 - index].std(axis=0).max() == 0


def test_two_people_speak_each_with_their_own_sound(
    pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]
) -> None:
    left, right = boxes
    clip = pipe.stream(two_people, _sound(1.0, seed=1), face=left, speakers=[(right, _sound(0.3, seed=2))], size_px=256)
    frames = clip.frames()
    assert len(frames) == 25  # as long as the longest
    for half in _halves(frames):
        assert half.std(axis=0).max() > 5
    assert isinstance(clip.speech, Waveform) and clip.speech.duration_s == pytest.approx(1.0, abs=1e-3)
    alone = _video(pipe, two_people, _sound(1.0, seed=1), face=left, size_px=256)
    assert _difference(_halves(frames)[0], _halves(alone)[0]) == 0  # nobody changes anybody else


@pytest.mark.parametrize("speaking", [1, 3, 4])
def test_of_four_people_each_hears_their_own_sound_and_who_has_none_is_still(
    pipe: AvatarPipeline, tmp_path: Path, speaking: int
) -> None:
    photo = np.pad(read_picture(PHOTO), ((256, 0), (0, 0), (0, 0)), "edge")  # room for a head that nods
    row = np.concatenate([photo, photo[:, ::-1]], axis=1)
    four = write_picture(tmp_path / "four.png", np.concatenate([row, row]))
    places = [BBox(x, y, x + 512, y + 768) for y in (0, 768) for x in (0, 512)]

    def quarters(last_seed: int) -> list[np.ndarray]:
        sounds = [_sound(0.4, seed=seed) for seed in (*range(speaking - 1), last_seed)]
        others = list(zip(places[1:], sounds[1:], strict=False))
        frames = _video(pipe, four, sounds[0], face=places[0], speakers=others, size_px=512)
        return [part for half in np.split(frames, 2, axis=1) for part in np.split(half, 2, axis=2)]

    before, after = quarters(50), quarters(51)
    assert [part.std(axis=0).max() > 2 for part in before] == [index < speaking for index in range(4)]
    assert [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [
        index == speaking - 1 for index in range(4)
    ]


def test_a_speaker_who_ends_long_before_the_others_lives_on(
    pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]
) -> None:
    clip = pipe.stream(
        two_people, _sound(0.1), face=boxes[0], speakers=[(boxes[1], _sound(7.0))], size_px=64, num_inference_steps=1
    )
    assert len(clip.frames()) == 175


def test_one_face_cannot_be_two_speakers(pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]) -> None:
    with pytest.raises(OptionError, match="two speakers have the same face"):
        pipe.stream(two_people, _sound(0.1), face=boxes[0], speakers=[(boxes[0], _sound(0.1))])


def test_speakers_of_a_prepared_portrait_are_found_in_its_picture(
    pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]
) -> None:
    left = load_portrait(two_people, boxes[0])
    frames = _video(pipe, left, _sound(0.4), speakers=[(boxes[1], _sound(0.4, seed=2))], size_px=256)
    assert all(half.std(axis=0).max() > 2 for half in _halves(frames))


def test_mixed_sound_does_not_clip(pipe: AvatarPipeline, two_people: Path, boxes: tuple[BBox, BBox]) -> None:
    loud = Waveform(np.full(4_000, 0.9, np.float32))
    clip: VideoClip = pipe.stream(two_people, loud, face=boxes[0], speakers=[(boxes[1], loud)], size_px=64)
    assert isinstance(clip.speech, Waveform)
    assert np.abs(clip.speech.samples).max() <= 1.0


def test_the_debug_pipeline_is_the_same_every_time_and_leaves_chance_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same = debug_pipeline(), debug_pipeline()
    assert torch.equal(torch.rand(1), expected)
    for name, value in one.transformer.state_dict().items():
        assert torch.equal(value, same.transformer.state_dict()[name])
