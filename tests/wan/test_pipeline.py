"""The Wan pipeline end to end, each published system's path, on tiny models of the real classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from avatar.codec.wan import WanCodec
from avatar.debug import DEBUG_SYSTEMS, debug_adapter, load_debug_adapter, write_debug_repository
from avatar.dit.published import fantasytalking
from avatar.errors import InputError, OptionError
from avatar.identity.choose import load_portrait
from avatar.media import read_picture
from avatar.types import MODEL_SAMPLE_RATE_HZ, BBox, Face, Portrait, Waveform
from avatar.wan.denoise import denoise
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.sound import tokens_of_chunk

PHOTO = Path(__file__).resolve().parent.parent.parent / "examples" / "astronaut.png"
SMALL: dict[str, Any] = {"size_px": 32, "num_inference_steps": 2, "chunk_frames": 13}
Make = Callable[[str], WanAvatarPipeline]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folders = {
        kind: write_debug_repository(tmp_path_factory.mktemp("wan") / kind, kind)  # type: ignore[arg-type]
        for kind in set(DEBUG_SYSTEMS.values())
    }

    @cache
    def of(system: str) -> WanAvatarPipeline:
        return WanAvatarPipeline.from_folders(
            folders[DEBUG_SYSTEMS[system]], lambda model: load_debug_adapter(system, model)
        )

    return of


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(PHOTO)


def _sound(seconds: float, seed: int = 0, rate_hz: int = MODEL_SAMPLE_RATE_HZ) -> Waveform:
    noise = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate_hz))
    return Waveform(noise.astype(np.float32), rate_hz)


@pytest.mark.parametrize("system", DEBUG_SYSTEMS)
def test_each_system_makes_a_film_of_the_right_length_that_hears_the_sound(
    make: Make, portrait: Portrait, system: str, tmp_path: Path
) -> None:
    pipeline = make(system)
    seconds, fps = 0.6, pipeline.preset.front_end.fps
    clip = pipeline(portrait, _sound(seconds), **SMALL)
    frames, other = clip.frames(), pipeline(portrait, _sound(seconds, seed=1), **SMALL).frames()
    assert np.abs(frames.astype(int) - other).max() > 0
    path = clip.save(tmp_path / "film.mp4")
    with av.open(str(path)) as film:
        video, audio = film.streams.video[0], film.streams.audio[0]
        assert sum(1 for _ in film.decode(video)) == round(seconds * fps)
        assert (video.average_rate, video.height, video.width) == (fps, 32, 32)
        assert float(audio.duration * audio.time_base) == pytest.approx(seconds, abs=0.05)


def test_a_second_pass_only_decodes(make: Make, portrait: Portrait) -> None:
    steps: list[tuple[int, int]] = []
    clip = make("fantasytalking")(portrait, _sound(0.6), progress=lambda *x: steps.append(x), **SMALL)
    assert steps == []  # nothing is made before it is asked for
    first = clip.frames()
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert np.array_equal(clip.frames(), first)
    assert len(steps) == 4


def test_prompt_seed_and_guidance_matter(make: Make, portrait: Portrait) -> None:
    pipeline = make("fantasytalking")
    base = pipeline(portrait, _sound(0.2), **SMALL).frames()
    changes: tuple[dict[str, Any], ...] = (
        {"prompt": "somebody else"},
        {"negative_prompt": "somebody else"},
        {"seed": 1},
        {"text_guidance_scale": 9.0},
        {"audio_guidance_scale": 9.0},
        {"shift": 1.0},
    )
    for change in changes:
        assert not np.array_equal(pipeline(portrait, _sound(0.2), **{**SMALL, **change}).frames(), base), change


def test_the_samplers_differ(make: Make, portrait: Portrait) -> None:
    """By more than a grey level only after a few steps: the first is Euler's in both."""
    pipeline = make("fantasytalking")
    four = {**SMALL, "num_inference_steps": 4}
    euler, unipc = (pipeline(portrait, _sound(0.2), **four, sampler=name).frames() for name in ("euler", "unipc"))
    assert not np.array_equal(euler, unipc)


def test_a_chunk_begins_with_the_last_frames_of_the_one_before(
    make: Make, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model is told of chunk 2 is what it made in chunk 1, to rounding."""
    pipeline = make("multitalk")
    monkeypatch.setattr(pipeline, "codec", WanCodec(pipeline.vae))
    told: list[torch.Tensor] = []
    plain = pipeline.codec.condition

    def spy(known: torch.Tensor, num_frames: int) -> torch.Tensor:
        told.append(known)
        return plain(known, num_frames)

    pipeline.codec.condition = spy  # type: ignore[method-assign]
    frames = pipeline(portrait, _sound(0.9), **SMALL).frames()
    assert told[0].shape[1] == 1 and told[1].shape[1] == 9
    seen = ((told[1] + 1) * 127.5).round().movedim(0, -1).numpy()
    assert np.abs(seen - frames[4:13]).max() <= 1


def test_latents_are_handed_over_as_they_are_and_decoded_as_one_stream(
    make: Make, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InfiniteTalk, without the round trip through the codec of the published driver."""
    pipeline = make("infinitetalk")
    pinned, made = [], []

    def spy(
        experts: Any, conditioning: Any, noise: torch.Tensor, sampling: Any, known: Any, *more: Any
    ) -> torch.Tensor:
        pinned.append(known)
        made.append(denoise(experts, conditioning, noise, sampling, known, *more))
        return made[-1]

    monkeypatch.setattr("avatar.wan.pipeline.denoise", spy)
    frames = pipeline(portrait, _sound(0.8), **SMALL).frames()
    assert [known.shape[2] for known in pinned] == [1, 3, 3]
    assert torch.equal(pinned[1], made[0][:, :, -3:]) and torch.equal(pinned[2], made[1][:, :, -3:])
    whole = torch.cat([made[0], made[1][:, :, 3:], made[2][:, :, 3:]], dim=2)[0]
    expected = np.concatenate(list(pipeline.codec.decode([whole])))
    assert len(frames) == 20 and np.array_equal(frames, expected[:20])


def test_the_published_handover_encodes_the_last_nine_frames_and_pins_them(
    make: Make, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InfiniteTalk as its own driver does it; the condition shows the picture alone."""
    pipeline = make("infinitetalk")
    pinned, shown = [], []

    def spy(experts: Any, conditioning: Any, noise: Any, sampling: Any, known: torch.Tensor, *more: Any) -> Any:
        pinned.append(known)
        shown.append(conditioning[0].reference_latents)
        return denoise(experts, conditioning, noise, sampling, known, *more)

    monkeypatch.setattr("avatar.wan.pipeline.denoise", spy)
    frames = pipeline(portrait, _sound(0.8), **SMALL, handover="pixels", colour_match=0.0).frames()
    again = pipeline.codec.encode(frames[4:13])
    assert [known.shape[2] for known in pinned] == [1, 3, 3]
    assert (pinned[1][0] - again).abs().max() < 0.1 * again.abs().max()  # frames are rounded to 8 bits
    assert torch.equal(shown[0], shown[1]) and shown[0][0, 1:4, 1:].sum() == 0


def test_what_goes_on_after_the_sound_is_its_end_backwards_or_silence(
    make: Make, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = {}
    for system in ("infinitetalk", "multitalk"):
        monkeypatch.setattr(
            "avatar.wan.pipeline.tokens_of_chunk",
            lambda adapter, features, chunk, system=system: (
                heard.update({system: features[0]}) or tokens_of_chunk(adapter, features, chunk)
            ),
        )
        make(system)(portrait, _sound(0.4), **SMALL).frames()
    mirrored = heard["infinitetalk"]
    assert len(mirrored) == 13 + 3 and len(heard["multitalk"]) == 13
    assert torch.equal(mirrored[10:], mirrored[4:10].flip(0))
    assert not torch.equal(heard["multitalk"][10:], heard["multitalk"][7:10].flip(0))


def test_a_chunk_handed_over_as_pixels_is_decoded_once(
    make: Make, portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make("multitalk")
    monkeypatch.setattr(pipeline, "codec", WanCodec(pipeline.vae))
    decoded, plain = [], pipeline.codec.decode_pixels

    def spy(blocks: Any) -> Any:
        decoded.append(1)
        return plain(blocks)

    monkeypatch.setattr(pipeline.codec, "decode_pixels", spy)
    clip = pipeline(portrait, _sound(0.9), **SMALL)
    next(iter(clip))  # left unfinished
    frames = clip.frames()
    assert len(decoded) == 1 + 4 and len(frames) == 22  # chunks of 13 that share 9
    assert np.array_equal(clip.frames(), frames)


def test_colours_are_brought_to_the_portraits(make: Make, portrait: Portrait) -> None:
    pipeline, small = make("infinitetalk"), {**SMALL, "num_inference_steps": 1}
    assert pipeline.preset.colour_match == 1.0
    wanted = portrait.image.reshape(-1, 3).mean(0)
    gap = {
        name: np.abs(pipeline(portrait, _sound(0.2), **small, **options).frames().mean((0, 1, 2)) - wanted).max()
        for name, options in {"latents": {}, "pixels": {"handover": "pixels"}, "asked": {"colour_match": 1.0}}.items()
    }
    assert gap["latents"] > 20  # handed over as latents, nothing drifts through the codec: not matched
    assert gap["pixels"] < 12 and gap["asked"] < 12


def test_guidance_of_published_systems_can_be_asked_for(make: Make, portrait: Portrait) -> None:
    small = {**SMALL, "num_inference_steps": 3}
    for system, kinds in {
        "infinitetalk": ("plain", "projected", "stepwise"),
        "echomimic-v3": ("plain", "boosted", "falling"),
    }.items():
        films = [make(system)(portrait, _sound(0.1), guidance=kind, **small).frames() for kind in kinds]
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(films, 2)), system
    published = make("echomimic-v3")(portrait, _sound(0.1), **small).frames()
    assert np.array_equal(published, films[1])


@pytest.mark.parametrize(("long_video", "sizes"), [(None, [3, 3, 3, 3]), ("shifted", [3, 3]), ("chunks", [4, 2])])
def test_long_video_is_made_as_the_system_does_or_as_asked(
    make: Make, portrait: Portrait, long_video: Any, sizes: list[int]
) -> None:
    """StableAvatar's windows over the whole video; each evaluation sees so many latent frames."""
    pipeline, seen = make("stableavatar"), []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda _, args: seen.append((args[0].shape[2], args[2].audio_tokens.shape[2]))
    )
    options = {**SMALL, "num_inference_steps": 1, "chunk_frames": 13 if long_video == "chunks" else 9}
    alone = {"text_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
    frames = pipeline(portrait, _sound(0.8), long_video=long_video, **options, **alone).frames()
    handle.remove()
    assert len(frames) == 20
    assert all(video == sound for video, sound in seen)
    if long_video != "chunks":
        assert [video for video, _ in seen] == sizes


def _two_people() -> tuple[Portrait, Portrait]:
    picture = np.concatenate([read_picture(PHOTO)] * 2, axis=1)
    faces = [
        Face(BBox(150 + x, 50, 300 + x, 250), np.zeros((478, 3), np.float32), load_portrait(PHOTO).face.pose)
        for x in (0, 512)
    ]
    return Portrait(picture, faces[0], (faces[1],)), Portrait(picture, faces[1], (faces[0],))


@pytest.mark.parametrize("system", ["multitalk", "echomimic-v3"])
def test_two_people_each_have_their_own_sound(make: Make, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, (left, right) = make(system), _two_people()
    monkeypatch.setattr("avatar.wan.cast.load_portrait", lambda picture, choice: picture if choice is None else right)
    small = {**SMALL, "size_px": 64}
    films = [
        pipeline(left, _sound(0.2, 1), speakers=[((0, 0, 1, 1), _sound(0.2, seed))], **small).frames()  # type: ignore[list-item]
        for seed in (2, 2, 3)
    ]
    assert films[0].shape == (5, 32, 64, 3)
    assert np.array_equal(films[0], films[1]) and not np.array_equal(films[0], films[2])


def test_one_persons_sound_acts_on_the_face_alone_only_where_the_system_was_made_so(
    make: Make, portrait: Portrait
) -> None:
    masks = {}
    for system in ("fantasytalking", "echomimic-v3"):
        pipeline = make(system)
        handle = pipeline.transformer.register_forward_pre_hook(
            lambda _, args, system=system: masks.update({system: args[2].face_mask})
        )
        pipeline(portrait, _sound(0.1), **SMALL).frames()
        handle.remove()
    assert masks["fantasytalking"] is None
    assert masks["echomimic-v3"].shape == (1, 1, 2, 2, 2)


def test_diffusers_pipeline_tools_reach_every_part(make: Make) -> None:
    pipeline = make("omniavatar-14b")
    assert {"transformer", "audio_projector", "vae", "text_encoder"} <= set(pipeline.components)
    pipeline.to(torch.float64)
    assert pipeline.transformer.dtype == pipeline.audio_projector.dtype == torch.float64
    pipeline.to(torch.float32)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    def load(model: Any) -> Any:
        return load_debug_adapter("fantasytalking", model)

    with pytest.raises(InputError, match="has no folder tokenizer: give a Wan repository in diffusers' layout"):
        WanAvatarPipeline.from_folders(tmp_path, load)
    folder = write_debug_repository(tmp_path / "wan")
    (folder / "image_encoder").rename(folder / "away")
    with pytest.raises(InputError, match="has no folder image_encoder, and the transformer attends to a picture"):
        WanAvatarPipeline.from_folders(folder, load)


def test_another_speech_encoder_is_refused(tmp_path: Path) -> None:
    folder = write_debug_repository(tmp_path / "wan")
    with pytest.raises(OptionError, match="this is not the speech encoder facebook/wav2vec2-base-960h: hidden size 32"):
        WanAvatarPipeline.from_folders(
            folder, lambda model: fantasytalking.load(model, debug_adapter("fantasytalking"))
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed must lie between"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 or more"),
        ({"chunk_frames": 12}, "a chunk has 1 \\+ 4 k frames"),
        ({"size_px": 8}, "longer side must be 16 px or more"),
        ({"handover": "film"}, "handover must be pixels or latents, not 'film'"),
        ({"long_video": "whole"}, "long_video must be chunks, windows, shifted, not 'whole'"),
        ({"long_video": "windows", "handover": "latents"}, "handover is between chunks"),
        ({"guidance": "strong"}, "guidance must be plain, boosted, falling, stepwise, projected, not 'strong'"),
        ({"guidance": "projected"}, "projected guidance goes with branches nested audio_then_text, and this"),
        ({"guidance": "stepwise", "audio_guidance_scale": 2.0}, "stepwise guidance brings its own scales of the sound"),
        ({"colour_match": 2.0}, "the strength of colour matching is a number from 0 to 1"),
        ({"emotion": "happy"}, "emotion='happy' needs a transformer with an emotion adapter, and this one has none"),
        ({"masks": "left"}, "masks are one picture per speaker, or 'faces', not 'left'"),
        ({"masks": []}, "there are 1 speakers and 0 masks"),
        ({"masks": [np.zeros((512, 512), np.uint8)]}, "mask 1 is empty: paint white"),
        ({"sampler": "ddim"}, "the sampler must be euler or unipc"),
        ({"prompt": "a" * 600}, "the prompt has 602 tokens"),
    ],
)
def test_options_are_checked_before_anything_is_made(
    make: Make, portrait: Portrait, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        make("fantasytalking")(portrait, _sound(0.2), **{**SMALL, **options})
