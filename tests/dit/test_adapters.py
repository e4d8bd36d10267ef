"""Laws of the two adapters: what they leave alone, where they act, and what they hear."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avatar.dit.adapters import (
    AdapterConfig,
    AdapterInputs,
    ResidualAdapter,
    SharedQueryAdapter,
    adapter_update,
    build_adapter,
)
from avatar.dit.block import AvatarBlock
from avatar.errors import OptionError

DIM, HEADS, TOKEN_DIM = 24, 2, 20
BATCH, FRAMES, PER_FRAME, SPEAKERS = 2, 3, 4, 2
TEXT = torch.randn(BATCH, 7, DIM, generator=torch.Generator().manual_seed(1))


def _config(tokens: str, kind: str, **settings: Any) -> AdapterConfig:
    return AdapterConfig.from_dict({"tokens": tokens, "kind": kind, "token_dim": TOKEN_DIM, **settings})


def _block(*adapters: AdapterConfig, has_text: bool = True) -> AvatarBlock:
    torch.manual_seed(0)
    return AvatarBlock(DIM, 48, HEADS, adapters=adapters, has_text=has_text).eval()


def _plain(block: AvatarBlock) -> AvatarBlock:
    """The same block without its adapters."""
    plain = _block(has_text=block.attn2 is not None)
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith("adapters.")})
    return plain


@torch.no_grad()
def _run(
    block: AvatarBlock, tokens: dict[str, torch.Tensor] | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    length = FRAMES * PER_FRAME
    hidden = torch.randn(BATCH, length, DIM, generator=generator)
    temb = torch.randn(BATCH, 6, DIM, generator=generator)
    rotary = (torch.ones(1, length, 1, DIM // HEADS), torch.zeros(1, length, 1, DIM // HEADS))
    return block(hidden, TEXT if block.attn2 is not None else None, temb, rotary, tokens, mask)


def _audio(seed: int = 3, speakers: int = 1) -> torch.Tensor:
    return torch.randn(BATCH, speakers, FRAMES, 5, TOKEN_DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("settings", [{}, {"gated": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_few_tokens_with_the_matrices_multiplied_in_give_the_same(settings: dict[str, Any], padded: bool) -> None:
    torch.manual_seed(0)
    adapter = build_adapter(64, 4, _config("audio", "residual", **settings))
    assert isinstance(adapter, ResidualAdapter)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    stream, tokens = torch.randn(3, 40, 64), torch.randn(3, 5, TOKEN_DIM)
    heard = torch.arange(5) < torch.tensor([[5], [2], [1]]) if padded else None
    assert adapter._is_foldable(stream, tokens)
    folded = adapter(stream, tokens, heard)
    adapter.norm_q = torch.nn.Sequential()  # passes everything on, and is no Identity
    assert not adapter._is_foldable(stream, tokens)
    assert torch.allclose(folded, adapter(stream, tokens, heard), atol=2e-6)


def test_matrices_are_multiplied_in_only_where_that_is_less_and_they_are_plain() -> None:
    adapter = build_adapter(64, 4, _config("audio", "residual"))
    assert isinstance(adapter, ResidualAdapter)
    stream, tokens = torch.randn(1, 40, 64), torch.randn(1, 5, TOKEN_DIM)
    assert adapter._is_foldable(stream, tokens)
    assert not adapter._is_foldable(
        stream, tokens.expand(1, 5, -1).repeat(1, 4, 1)
    )  # as many heads and tokens as channels
    assert not adapter._is_foldable(stream[:, :6], tokens)
    assert not adapter._is_foldable(stream.bfloat16(), tokens)
    adapter.proj = torch.nn.Sequential(adapter.proj)  # type: ignore[assignment]  # as LoRA and quantisation wrap it
    assert not adapter._is_foldable(stream, tokens)


def _only_update(kind: str, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(B, F, N, D): how far the audio adapter moves the stream before the feed-forward layer adds its own."""
    block = _block(_config("audio", kind, masked=True))
    if kind == "shared_query":
        torch.nn.init.normal_(block.adapters["audio"].to_v.weight)
    block.ffn = torch.nn.Identity()  # type: ignore[assignment]
    block.norm3 = _Zero()  # type: ignore[assignment]
    with_sound = _run(block, {"audio": tokens}, mask)
    return (with_sound - _run(block)).unflatten(1, (FRAMES, PER_FRAME))


class _Zero(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_a_fresh_shared_query_adapter_changes_nothing() -> None:
    """Regression: the value's bias was not zero, only its weight."""
    block = _block(_config("audio", "shared_query"), _config("identity", "shared_query", key_norm=True))
    tokens = {"audio": _audio(), "identity": torch.randn(BATCH, 6, TOKEN_DIM)}
    assert torch.allclose(_run(block, tokens), _run(_plain(block)), atol=1e-6)


def test_a_trained_shared_query_adapter_does_change_something() -> None:
    block = _block(_config("audio", "shared_query"))
    torch.nn.init.normal_(block.adapters["audio"].to_v.weight)
    assert not torch.allclose(_run(block, {"audio": _audio()}), _run(_plain(block)), atol=1e-2)


def test_the_shared_query_is_added_before_the_output_projection() -> None:
    """FantasyTalking, arXiv 2504.04842, eq. 5: one query, two attentions, summed before the output projection."""
    block = _block(_config("identity", "shared_query"))
    adapter = block.adapters["identity"]
    assert isinstance(adapter, SharedQueryAdapter)
    tokens = torch.randn(BATCH, 6, TOKEN_DIM)
    adapter.to_k = torch.nn.Linear(TOKEN_DIM, DIM)
    adapter.to_v = torch.nn.Linear(TOKEN_DIM, DIM)
    normed = torch.randn(BATCH, 12, DIM)
    inputs = AdapterInputs({"identity": tokens})
    listeners = [lambda query: adapter_update(adapter, block.adapter_configs[0], query, inputs)]
    with torch.no_grad():
        query = block.attn2.norm_q(block.attn2.to_q(normed))  # type: ignore[union-attr]
        q, k, v = (
            x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, adapter.to_k(tokens), adapter.to_v(tokens))
        )
        attended = torch.softmax(q @ k.mT / (DIM // HEADS) ** 0.5, -1) @ v
        expected = attended.transpose(1, 2).flatten(2) @ block.attn2.to_out[0].weight.T  # type: ignore[union-attr]
        alone = block.attn2(normed, TEXT)  # type: ignore[misc]
        update = block.attn2(normed, TEXT, listeners=listeners) - alone  # type: ignore[misc]
    assert torch.allclose(update, expected, atol=1e-5)


@pytest.mark.parametrize("has_text", [True, False])
def test_a_residual_adapter_with_a_closed_gate_is_not_there(has_text: bool) -> None:
    block = _block(_config("audio", "residual", gated=True, masked=True), has_text=has_text)
    assert torch.equal(_run(block, {"audio": _audio()}), _run(_plain(block)))
    with torch.no_grad():
        block.adapters["audio"].gate.fill_(0.7)
    assert not torch.allclose(_run(block, {"audio": _audio()}), _run(_plain(block)), atol=1e-4)


@pytest.mark.parametrize("kind", ["residual", "shared_query"])
def test_an_adapter_without_tokens_is_not_there(kind: str) -> None:
    block = _block(_config("audio", kind))
    assert torch.equal(_run(block), _run(_plain(block)))
    assert torch.equal(_run(block, {"identity": torch.randn(BATCH, 6, TOKEN_DIM)}), _run(_plain(block)))


@pytest.mark.parametrize("kind", ["residual", "shared_query"])
def test_sound_acts_only_where_the_face_is(kind: str) -> None:
    mask = torch.zeros(BATCH, 1, FRAMES, PER_FRAME)
    mask[:, :, :, 2:] = 1
    update = _only_update(kind, _audio(), mask.flatten(2)[..., None])
    assert update[:, :, :2].abs().max() < 1e-6
    assert (update[:, :, 2:].abs().amax(-1) > 1e-3).all()


def test_half_a_mask_is_half_the_update() -> None:
    full = _only_update("residual", _audio(), torch.ones(BATCH, 1, FRAMES * PER_FRAME, 1))
    half = _only_update("residual", _audio(), torch.full((BATCH, 1, FRAMES * PER_FRAME, 1), 0.5))
    assert torch.allclose(half, full / 2, atol=1e-5)


@pytest.mark.parametrize("kind", ["residual", "shared_query"])
def test_the_sound_of_a_frame_reaches_that_frame_alone(kind: str) -> None:
    before, after = _audio(), _audio()
    after[:, :, 1] += 1
    changed = (_only_update(kind, after, None) - _only_update(kind, before, None)).abs().amax((0, 2, 3))
    assert changed[1] > 1e-3
    assert changed[0] < 1e-6 and changed[2] < 1e-6


@pytest.mark.parametrize("kind", ["residual", "shared_query"])
def test_several_speakers_add_up_each_within_their_own_face(kind: str) -> None:
    both = torch.cat([_audio(3), _audio(4)], dim=1)
    masks = torch.rand(BATCH, SPEAKERS, FRAMES * PER_FRAME, 1)
    together = _only_update(kind, both, masks)
    alone = [_only_update(kind, both[:, s : s + 1], masks[:, s : s + 1]) for s in range(SPEAKERS)]
    assert torch.allclose(together, sum(alone), atol=1e-5)  # type: ignore[arg-type]


def _regions(speakers: int) -> torch.Tensor:
    """(B, S, F, N): speaker s has token s of every frame; with fewer speakers than tokens the last ones are nobody's."""
    return torch.eye(PER_FRAME)[:speakers, None].expand(BATCH, speakers, FRAMES, PER_FRAME)


@pytest.mark.parametrize("speakers", [1, 2, 4])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("residual", {}), ("shared_query", {}), ("input", {}), ("residual", {"speaker_positions": True})],
)
def test_a_speakers_sound_stays_within_that_ones_mask(kind: str, settings: dict[str, Any], speakers: int) -> None:
    """With a mask of its own every adapter of the sound is masked, for any number of people."""
    config = _config("audio", kind, **settings)
    torch.manual_seed(0)
    adapter = build_adapter(DIM, HEADS, config)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    stream, tokens, masks = torch.randn(BATCH, FRAMES * PER_FRAME, DIM), _audio(3, speakers), _regions(speakers)
    tokens = tokens[:, :, :, :1] if kind == "input" else tokens

    def update(tokens: torch.Tensor) -> torch.Tensor:
        inputs = AdapterInputs({"audio": tokens, "audio_mask": masks.flatten(2)[..., None]})
        return adapter_update(adapter, config, stream, inputs).unflatten(1, (FRAMES, PER_FRAME))

    with torch.no_grad():
        before = update(tokens)
        assert (before[:, :, speakers:] == 0).all()  # who is in nobody's mask stays silent
        for speaker in range(speakers):
            other = tokens.clone()
            other[:, speaker] += 1
            moved = (update(other) != before).any(-1)
            assert torch.equal(moved, masks[:, speaker].bool())


def test_several_speakers_are_masked_whatever_the_settings_say() -> None:
    config = _config("audio", "residual")
    adapter, stream = build_adapter(DIM, HEADS, config), torch.randn(BATCH, FRAMES * PER_FRAME, DIM)
    with pytest.raises(OptionError, match="2 speakers need a face mask each"):
        adapter_update(adapter, config, stream, AdapterInputs({"audio": _audio(3, 2)}))
    masks = _regions(2).flatten(2)[..., None]
    update = adapter_update(adapter, config, stream, AdapterInputs({"audio": _audio(3, 2)}, masks))
    assert (update.unflatten(1, (FRAMES, PER_FRAME))[:, :, 2:] == 0).all()


def test_emotion_is_heard_per_frame_and_identity_everywhere() -> None:
    block = _block(_config("emotion", "residual"), _config("identity", "residual"))
    emotion = torch.randn(BATCH, FRAMES, 2, TOKEN_DIM)
    identity = torch.randn(BATCH, 6, TOKEN_DIM)
    block.ffn, block.norm3 = torch.nn.Identity(), _Zero()  # type: ignore[assignment]
    base = _run(block, {"emotion": emotion, "identity": identity}).unflatten(1, (FRAMES, PER_FRAME))
    moved = emotion.clone()
    moved[:, 2] += 1
    change = (_run(block, {"emotion": moved, "identity": identity}).unflatten(1, (FRAMES, PER_FRAME)) - base).abs()
    assert change[:, 2].max() > 1e-3 and change[:, :2].max() < 1e-6
    change = (
        _run(block, {"emotion": emotion, "identity": identity + 1}).unflatten(1, (FRAMES, PER_FRAME)) - base
    ).abs()
    assert (change.amax((0, 2, 3)) > 1e-3).all()


def test_settings_are_checked() -> None:
    with pytest.raises(OptionError, match="unknown adapter settings \\['gate'\\]; accepted: \\['bias'"):
        AdapterConfig.from_dict({"tokens": "audio", "kind": "residual", "token_dim": 8, "gate": True})
    with pytest.raises(OptionError, match="must be audio, identity or emotion, not 'text'"):
        _config("text", "residual")
    with pytest.raises(OptionError, match="must be shared_query, residual or input, not 'adaln'"):
        _config("audio", "adaln")


def test_a_query_can_only_be_shared_where_there_is_one() -> None:
    with pytest.raises(OptionError, match="shared_query adapter needs a block with text attention"):
        _block(_config("audio", "shared_query"), has_text=False)


def test_bias_is_optional() -> None:
    module = build_adapter(DIM, HEADS, _config("audio", "shared_query", bias=False))
    assert module.to_k.bias is None and module.to_v.bias is None  # type: ignore[union-attr]
