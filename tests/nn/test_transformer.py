"""Long sequences a stretch, some rows and some heads at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auricle.models.spectral_transformer import BertConfig, BertEncoder
from auricle.nn.attention import RelativePositionConfig
from auricle.nn.batch import Layout
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.cpu import policy
from auricle.nn.transformer import TransformerConfig, TransformerLayer, WaveformTransformer

WIDTH = 8
LENGTHS = [40, 7, 40, 1, 23]
CHUNK_BYTES = [64, 600, 4000]
"""For a frame; for some frames of one head; for several rows of both heads."""

SIZES = {"hidden_size": WIDTH, "num_layers": 2, "num_heads": 2, "ffn_size": 12}
RELATIVE = RelativePositionConfig(num_buckets=8, max_distance=6)
STACK = ConvPositionConfig(kind="stack", kernel_size=4, num_groups=2, depth=3)
BATCH_NORM = ConvPositionConfig(kind="batch_norm", kernel_size=6, num_groups=2)


def spectral(**options: Any) -> nn.Module:
    return BertEncoder(BertConfig(**SIZES, **options), input_dim=WIDTH)


def waveform(**options: Any) -> nn.Module:
    options.setdefault("positions", ConvPositionConfig(kernel_size=5, num_groups=2))
    config = TransformerConfig(**SIZES, **options)
    return WaveformTransformer(config, position_activation="gelu")


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "spectral": spectral,
    "shared": lambda: spectral(share_layer=True),
    "spectral_pre_norm": lambda: spectral(pre_layer_norm=True),
    "cut": lambda: spectral(max_chunk_frames=9),
    "waveform": waveform,
    "waveform_pre_norm": lambda: waveform(pre_layer_norm=True),
    "stack": lambda: waveform(positions=STACK),
    "batch_norm": lambda: waveform(positions=BATCH_NORM),
    "relative": lambda: waveform(relative_positions=RELATIVE),
    "relative_pre_norm": lambda: waveform(relative_positions=RELATIVE, pre_layer_norm=True),
}


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def layer_of() -> TransformerLayer:
    layer = BertEncoder(BertConfig(**SIZES), input_dim=WIDTH).layers[0]
    assert isinstance(layer, TransformerLayer)
    return layer


def frames(num_rows: int) -> Tensor:
    return torch.randn(num_rows, 40, WIDTH, generator=torch.Generator().manual_seed(2))


def states_of(module: nn.Module, x: Tensor, lengths: list[int]) -> list[list[Tensor]]:
    """True frames of each row for each state; copies, for a state may be written over later."""
    layout = Layout(lengths, is_packed=True)
    with torch.inference_mode():
        return [[row.clone() for row in layout.rows(state)] for state in module(x, layout)]


@pytest.mark.parametrize("chunk_bytes", CHUNK_BYTES)
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("lengths", [LENGTHS, [40]], ids=["ragged", "lone"])
def test_small_chunks_change_nothing(
    name: str, chunk_bytes: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = randomised(ENCODERS[name]())
    x = frames(len(lengths))
    expected = states_of(module, x.clone(), lengths)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", chunk_bytes)
    assert len(expected) == 3
    for ours, theirs in zip(states_of(module, x, lengths), expected, strict=True):
        for row, row_expected in zip(ours, theirs, strict=True):
            scale = max(float(row_expected.std(correction=0)), 1e-3)
            assert float((row - row_expected).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize("chunk_bytes", CHUNK_BYTES)
@pytest.mark.parametrize("name", ["waveform", "relative_pre_norm"])
def test_small_chunks_change_no_feed_forward_output(
    name: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = randomised(ENCODERS[name]())

    def states() -> list[Tensor]:
        with torch.inference_mode():
            layout = Layout(LENGTHS, is_packed=True)
            return [x.clone() for x in module(frames(len(LENGTHS)), layout, tapped=[0, 1])]

    expected = states()
    assert len(expected) == 5
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", chunk_bytes)
    for ours, theirs in zip(states(), expected, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.std())


@pytest.mark.parametrize("name", ["spectral", "relative_pre_norm"])
def test_states_are_not_written_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = randomised(ENCODERS[name]())
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 64)
    copies, states = [], []
    with torch.inference_mode():
        for state in module(frames(1), Layout([40], is_packed=True)):
            states.append(state)
            copies.append(state.clone())
    assert all(torch.equal(*pair) for pair in zip(states, copies, strict=True))


def test_attention_is_given_an_utterance_and_few_heads_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = randomised(layer_of())
    assert isinstance(layer, TransformerLayer)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 40 * 3 * (WIDTH // 2) * 4)
    shapes = []
    attend = layer.attention.attend

    def record(
        query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, *biases: None
    ) -> Tensor:
        shapes.append(tuple(query.shape))
        # An utterance by itself has nothing to hide.
        assert seen is None
        return attend(query, key, value, seen)

    monkeypatch.setattr(layer.attention, "attend", record)
    with torch.inference_mode():
        layout = Layout([40, 40, 7], is_packed=True)
        layer._in_chunks(frames(3).view(1, 120, WIDTH)[:, :87], layout, None)
    assert shapes == [(1, 1, 40, 4)] * 4 + [(1, 2, 7, 4)]


def test_whatever_stands_in_a_projections_place_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    module = randomised(spectral())
    layer = module.layers[0]  # type: ignore[index, union-attr]  # a list of modules
    layer.attention.query = randomised(Adapted(WIDTH, WIDTH))  # type: ignore[union-attr]
    expected = states_of(module, frames(1), [40])[-1][0]
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 64)
    assert torch.allclose(states_of(module, frames(1), [40])[-1][0], expected, atol=1e-5)


def test_gradients_go_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of().eval()
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 64)
    with torch.no_grad():
        assert layer.is_long(frames(1))
    assert not layer.is_long(frames(1))  # what is learnt from is held anyway
