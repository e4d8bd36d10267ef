"""Many people in one picture: each one's sound, identity and feeling act where that one is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar.debug import DEBUG_SYSTEMS, load_debug_adapter, write_debug_repository
from avatar.dit import block
from avatar.dit.adapters import AdapterConfig, AdapterInputs, adapter_update
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import FaceError, OptionError
from avatar.identity.choose import load_portrait
from avatar.types import BBox, Portrait, Waveform
from avatar.wan.cast import cast_speakers
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.reference import attach_reference
from avatar.wan.reference_file import save_reference

PHOTO = Path(__file__).resolve().parent.parent.parent / "examples" / "astronaut.png"
NOBODY = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)  # a picture without a face
QUICK: dict[str, Any] = {  # one evaluation, 4 x 4 tokens a frame
    "size_px": 64,
    "num_inference_steps": 1,
    "text_guidance_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "guidance": "plain",
}
GRID = 4
Make = Callable[[str], WanAvatarPipeline]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folders = {
        kind: write_debug_repository(tmp_path_factory.mktemp("wan") / kind, kind, num_layers=4)  # type: ignore[arg-type]
        for kind in ("i2v", "t2v")
    }

    @cache
    def of(system: str) -> WanAvatarPipeline:
        return WanAvatarPipeline.from_folders(
            folders[DEBUG_SYSTEMS[system]], lambda model: load_debug_adapter(system, model)
        )

    return of


def _sound(seed: int) -> Waveform:
    return Waveform((0.1 * np.random.default_rng(seed).normal(size=3200)).astype(np.float32))


def _columns(speakers: int) -> list[np.ndarray]:
    """Speaker s has column s of the token grid, but for its lower half, which is nobody's."""
    masks = np.zeros((speakers, 128, 128), np.uint8)
    for speaker in range(speakers):
        masks[speaker, :64, 32 * speaker : 32 * (speaker + 1)] = 255
    return list(masks)


def _updates(
    pipeline: WanAvatarPipeline, monkeypatch: pytest.MonkeyPatch, seeds: list[int], **options: Any
) -> np.ndarray:
    """What the first block's audio adapter adds, (F, rows, columns, D)."""
    seen: list[torch.Tensor] = []

    def spy(
        adapter: torch.nn.Module, config: AdapterConfig, hidden_states: torch.Tensor, inputs: AdapterInputs
    ) -> torch.Tensor:
        seen.append(adapter_update(adapter, config, hidden_states, inputs))
        return seen[-1]

    monkeypatch.setattr(block, "adapter_update", spy)
    speakers = [(None, _sound(seed)) for seed in seeds[1:]]
    pipeline(NOBODY, _sound(seeds[0]), speakers=speakers, **{**QUICK, **options}).frames()
    return seen[0].unflatten(1, (-1, GRID, GRID))[0].numpy()


@pytest.mark.parametrize("system", ["echomimic-v3", "multitalk", "omniavatar-1.3b"])
@pytest.mark.parametrize("speakers", [1, 2, 4])
def test_a_speakers_sound_moves_no_token_outside_that_ones_mask(
    make: Make, monkeypatch: pytest.MonkeyPatch, system: str, speakers: int
) -> None:
    """Shared query, residual and input adapters; the masks are drawn, and there is no face in the picture."""
    masks, seeds = _columns(speakers), list(range(speakers))
    before = _updates(make(system), monkeypatch, seeds, masks=masks)
    after = _updates(make(system), monkeypatch, [*seeds[:-1], 99], masks=masks)
    moved = (before != after).any((0, -1))
    assert moved[: GRID // 2, speakers - 1].all()
    assert moved.sum() == GRID // 2
    spoken = np.abs(before).max((0, -1)) > 0
    assert spoken[: GRID // 2, :speakers].all()
    assert spoken.sum() == speakers * GRID // 2  # whoever is in no mask stays silent


def test_two_people_are_bound_by_positions_unless_masks_are_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MultiTalk's own way does not keep one's sound strictly off the other."""
    pipeline, photo = make("multitalk"), load_portrait(PHOTO)
    right = Portrait(photo.image, replace_box(photo, BBox(300, 20, 500, 220)))
    monkeypatch.setattr("avatar.wan.cast.load_portrait", lambda picture, choice: picture if choice is None else right)
    seen: dict[str, Any] = {}
    for name, options in {"own": {}, "strict": {"masks": "faces"}}.items():
        handle = pipeline.transformer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[2]}))
        pipeline(photo, _sound(0), speakers=[(2, _sound(1))], **QUICK, **options).frames()
        handle.remove()
    assert seen["own"].face_mask is not None and seen["own"].audio_mask is None
    assert torch.equal(seen["strict"].audio_mask, seen["strict"].face_mask)


def replace_box(portrait: Portrait, box: BBox) -> Any:
    return type(portrait.face)(box, portrait.face.landmarks, portrait.face.pose)


def test_a_face_is_looked_for_in_the_mask_where_one_is_needed() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[:300, 100:350] = 255
    cast = cast_speakers(PHOTO, [None], [mask], faces_needed=True)
    (person,) = cast.people
    assert mask[tuple(int(v) for v in reversed(person.face.bbox.centre))] == 255
    assert cast_speakers(PHOTO, [None], [mask], faces_needed=False).people == ()
    with pytest.raises(FaceError, match="no face lies in the box 0,0,100,100"):
        away = np.zeros((512, 512), np.uint8)
        away[:100, :100] = 255
        cast_speakers(PHOTO, [None], [away], faces_needed=True)


def test_a_choice_of_face_beside_a_drawn_mask_is_refused() -> None:
    with pytest.raises(OptionError, match="a drawn mask says where speaker 1 is"):
        cast_speakers(PHOTO, ["left"], [np.full((512, 512), 255, np.uint8)], faces_needed=False)


@pytest.fixture(scope="module")
def referring(tmp_path_factory: pytest.TempPathFactory) -> WanAvatarPipeline:
    folder = write_debug_repository(tmp_path_factory.mktemp("wan") / "i2v", num_layers=1)
    torch.manual_seed(0)
    fresh = attach_reference(AvatarTransformer3DModel.from_wan(folder), identity="features")
    return WanAvatarPipeline.from_folders(
        folder,
        lambda model: load_debug_adapter("fantasytalking", model),
        reference=save_reference(fresh, folder / "reference.safetensors"),
    )


def test_identity_and_emotion_reach_the_transformer_through_the_pipeline(
    referring: WanAvatarPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avatar.wan.reference.EMOTION_PX", 32)
    photo, told = load_portrait(PHOTO), []
    handle = referring.transformer.register_forward_pre_hook(lambda _, args: told.append(args[2]))
    closed = [referring(photo, _sound(0), emotion=each, **QUICK).frames() for each in (None, "happy")]
    assert np.array_equal(*closed)  # nothing is learnt yet
    assert told[0].emotion_tokens is None and told[0].identity_tokens.shape == (1, 1, 8, 512)
    assert told[1].emotion_tokens.shape == (1, 1, 2, 4, 64) and told[1].reference_mask.shape == (1, 1, 2, 4, 4)
    assert told[1].face_mask is None and told[1].audio_mask is None  # the sound acts as it did
    with torch.no_grad():
        for name, parameter in referring.transformer.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(5.0)
    films = [referring(photo, _sound(0), emotion=each, **QUICK).frames() for each in (None, "happy", PHOTO, "auto")]
    handle.remove()
    assert not np.array_equal(films[0], closed[0])
    assert not any(np.array_equal(films[0], film) for film in films[1:])
    assert not np.array_equal(films[1], films[2])
