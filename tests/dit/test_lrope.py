"""Label rotary positions: whose voice a video token hears."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.adapters import AdapterConfig, AdapterInputs, adapter_update, build_adapter
from avatar.dit.lrope import query_positions, region_scores, rotate, voice_positions
from avatar.errors import OptionError

DIM, HEADS, FRAMES, CELLS, VOICE_TOKENS = 16, 2, 3, 6, 2
CONFIG = AdapterConfig("audio", "residual", token_dim=5, speaker_positions=True)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_are_the_attention_map_averaged_over_the_region() -> None:
    query, key = _random(1, 12, HEADS, 8), _random(1, CELLS, HEADS, 8, seed=1)
    regions = torch.tensor([[[1.0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]]])
    weights = torch.softmax(torch.einsum("bnhd,bmhd->bhnm", query, key) / 8**0.5, -1).mean(1)
    expected = torch.stack([weights[..., :2].mean(-1), weights[..., 3:].mean(-1)], dim=1)
    assert torch.allclose(region_scores(query, key, regions), expected, atol=1e-6)


def test_labels_and_positions_follow_the_region_looked_at() -> None:
    scores = torch.tensor([[[0.9, 0.1, 0.2], [0.1, 0.8, 0.2], [0.2, 0.3, 0.5]]])
    labels, positions = query_positions(scores)
    assert labels.tolist() == [[0, 1, 2]]
    assert torch.allclose(positions, torch.tensor([[4.0, 24.0, 12.0]]), atol=1e-5)


def test_rotation_keeps_length_and_depends_on_the_distance_alone() -> None:
    query, key = _random(1, 1, 1, 8), _random(1, 1, 1, 8, seed=1)
    near = (rotate(query, torch.tensor([3.0])) * rotate(key, torch.tensor([1.0]))).sum()
    moved = (rotate(query, torch.tensor([23.0])) * rotate(key, torch.tensor([21.0]))).sum()
    assert torch.allclose(near, moved, atol=1e-5)
    assert torch.allclose(rotate(query, torch.tensor([5.0])).norm(), query.norm(), atol=1e-5)


def test_voices_have_the_speakers_positions_in_turn() -> None:
    assert voice_positions(2).tolist() == [2, 2, 22, 22]


def _inputs(speakers: int, face_mask: torch.Tensor | None, audio: torch.Tensor | None = None) -> AdapterInputs:
    tokens = _random(1, speakers, FRAMES, VOICE_TOKENS, 5, seed=2) if audio is None else audio
    length = FRAMES * CELLS
    query_key = (_random(1, length, HEADS, DIM // HEADS, seed=3), _random(1, length, HEADS, DIM // HEADS, seed=4))
    return AdapterInputs({"audio": tokens}, face_mask, query_key)


def _update(inputs: AdapterInputs) -> torch.Tensor:
    torch.manual_seed(0)
    adapter = build_adapter(DIM, HEADS, CONFIG)
    with torch.no_grad():
        return adapter_update(adapter, CONFIG, _random(1, FRAMES * CELLS, DIM, seed=5), inputs)


def _masks(speakers: int) -> torch.Tensor:
    masks = torch.zeros(1, speakers, CELLS)
    for speaker in range(speakers):
        masks[:, speaker, speaker] = 1
    return masks.repeat(1, 1, FRAMES)[..., None]


def test_one_speaker_is_heard_everywhere() -> None:
    assert torch.equal(_update(_inputs(1, None)), _update(_inputs(1, _masks(1))))


def test_two_speakers_are_bound_by_position_and_more_by_their_masks() -> None:
    assert (_update(_inputs(2, _masks(2))).abs() > 0).all()
    three = _update(_inputs(3, _masks(3))).unflatten(1, (FRAMES, CELLS))
    assert (three[:, :, :3].abs() > 0).all() and (three[:, :, 3:] == 0).all()


def test_with_three_speakers_a_voice_changes_nothing_outside_its_own_mask() -> None:
    audio = _random(1, 3, FRAMES, VOICE_TOKENS, 5, seed=2)
    changed = audio.clone()
    changed[:, 1] += 1
    before, after = (_update(_inputs(3, _masks(3), a)).unflatten(1, (FRAMES, CELLS)) for a in (audio, changed))
    difference = (after - before).abs().amax((0, 1, 3))
    assert difference[1] > 0 and (difference[[0, 2, 3, 4, 5]] == 0).all()


@pytest.mark.parametrize("speakers", [2, 3])
def test_several_speakers_without_masks_are_refused(speakers: int) -> None:
    with pytest.raises(OptionError, match="speakers need a face mask each"):
        _update(_inputs(speakers, None))


def test_only_an_attention_of_its_own_has_positions() -> None:
    with pytest.raises(OptionError, match="speaker_positions needs a residual adapter, not 'shared_query'"):
        AdapterConfig("audio", "shared_query", token_dim=5, speaker_positions=True)
