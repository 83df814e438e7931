from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auricle.info import Window
from auricle.nn import conv_stack
from auricle.nn.conv import Conv1d
from auricle.nn.conv_stack import StackModule, run_stack
from auricle.nn.cpu import policy
from auricle.nn.norms import UtteranceGroupNorm

DIM = 4
LENGTHS = [500, 37, 499, 260]
"""The second gives as few frames as there can be."""


class Layer(StackModule):
    """A convolution over zero-padded ends; counts its runs and notes the most that it gave."""

    def __init__(self, window: Window, *, input_dim: int, normed: bool, shortcut: bool) -> None:
        super().__init__()
        self.window, self.dim, self.has_shortcut = window, DIM, shortcut
        self.conv = Conv1d(
            input_dim, DIM, window.size, window.stride, padding=window.pad_left
        ).double()
        self.utterance_norm = UtteranceGroupNorm(num_groups=2, dim=DIM) if normed else None
        self.num_frames: list[int] = []

    @property
    def parts(self) -> Sequence[nn.Module]:
        return list(self.children())

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        self.num_frames.append(y.shape[2])
        return y

    def shortcut(self, x: Tensor, steps: Sequence[int], num_frames: int) -> Tensor:
        rows = [row[:, ::step][:, :num_frames] for row, step in zip(x, steps, strict=True)]
        rows = [nn.functional.pad(row, (0, num_frames - row.shape[1])) for row in rows]
        return 0.5 * torch.stack(rows)

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Sequence[int]) -> Tensor:
        y = torch.tanh(y) if shortcut is None else torch.tanh(y) + shortcut
        mask = torch.arange(y.shape[2]) < torch.tensor(num_frames).unsqueeze(1)
        return y * mask.unsqueeze(1)


def stack(*, shortcuts: bool, norms: tuple[bool, ...], padding: int = 0) -> list[Layer]:
    torch.manual_seed(0)
    windows = (
        Window(size=6, stride=3, pad_left=padding, pad_right=padding),
        Window(size=4, stride=2, pad_left=padding, pad_right=padding),
        Window(size=1),
        Window(size=3, pad_left=padding, pad_right=padding),
    )
    made = [
        Layer(
            window, input_dim=DIM if index else 1, normed=normed, shortcut=shortcuts and index > 0
        )
        for index, (window, normed) in enumerate(zip(windows, norms, strict=True))
    ]
    for layer in made:
        if layer.utterance_norm is not None:
            nn.init.normal_(layer.utterance_norm.weight)
            nn.init.normal_(layer.utterance_norm.bias)
    return made


def run(layers: list[Layer], x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        output, num_frames = run_stack(layers, x, LENGTHS)
    return [row[:, :count] for row, count in zip(output, num_frames, strict=True)]


def batch() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(LENGTHS), 1, max(LENGTHS), generator=generator, dtype=torch.float64)
    for row, length in zip(x, LENGTHS, strict=True):
        row[:, length:] = 0
    return x


NORMS = ((True,) * 4, (True, False, False, False), (False, True) * 2)
EVERY_PAIR = [
    pytest.param(
        norms,
        shortcuts,
        padding,
        marks=() if (index + shortcuts + padding) % 2 == 0 else pytest.mark.whole,
    )
    for (index, norms), shortcuts, padding in itertools.product(
        enumerate(NORMS), (False, True), (0, 1)
    )
]
"""Norms, shortcuts and padding: every pair of them in half of all threes."""


@pytest.mark.parametrize(("norms", "shortcuts", "padding"), EVERY_PAIR)
@pytest.mark.parametrize("stretch_bytes", [1, 5_000])
@pytest.mark.parametrize("held_bytes", [0, 12_000, 1 << 30])
def test_stretches_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
    norms: tuple[bool, ...],
    shortcuts: bool,
    padding: int,
    stretch_bytes: int,
    held_bytes: int,
) -> None:
    layers = stack(shortcuts=shortcuts, norms=norms, padding=padding)
    x = batch()
    whole = run(layers, x)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", stretch_bytes)
    monkeypatch.setattr(conv_stack, "HELD_BYTES", held_bytes)
    given = x.clone()
    for ours, theirs in zip(run(layers, given), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    assert torch.equal(given, x)


@pytest.mark.parametrize(
    ("held_bytes", "passes"),
    # 165, 81, 81 and 79 frames of 4 columns and 4 utterances in float64.
    [(1 << 30, (1, 1, 1, 1)), (20_000, (2, 1, 1, 1)), (0, (4, 3, 2, 1))],
)
def test_a_layer_that_is_held_is_computed_once(
    monkeypatch: pytest.MonkeyPatch, held_bytes: int, passes: tuple[int, ...]
) -> None:
    layers = stack(shortcuts=False, norms=(True,) * 4)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", conv_stack.CPU_SHARE * 5_000)
    monkeypatch.setattr(conv_stack, "HELD_BYTES", held_bytes)
    run(layers, batch())
    for layer, frames, most in zip(layers, (165, 81, 81, 79), passes, strict=True):
        assert frames * most <= sum(layer.num_frames) <= 1.3 * frames * most


def test_no_stretch_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = stack(shortcuts=False, norms=(True,) * 4)
    frame_bytes = len(LENGTHS) * DIM * 8
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", conv_stack.CPU_SHARE * 40 * frame_bytes)
    run(layers, batch())
    for layer in layers:
        assert max(layer.num_frames) <= 40 + 4  # and the frames beside them that they see


def test_training_takes_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = stack(shortcuts=False, norms=(False,) * 4)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1)
    with torch.no_grad():
        run_stack(layers, batch(), LENGTHS, is_training=True)
    assert [len(layer.num_frames) for layer in layers] == [1] * 4
    run_stack(layers, batch(), LENGTHS)  # gradients are recorded
    assert [len(layer.num_frames) for layer in layers] == [2] * 4


class Doubled(nn.Module):
    """A wrapper that passes on attributes, as adapters do."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layer, name)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        y: Tensor = 2 * self.layer(x, lengths)
        return y


@pytest.mark.parametrize("index", range(4))
def test_a_wrapped_layer_acts_on_long_batches(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[Any] = stack(shortcuts=False, norms=(False,) * 4)
    layers[index] = Doubled(layers[index])
    expected = run(layers, batch())
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1_000)
    for ours, theirs in zip(run(layers, batch()), expected, strict=True):
        assert torch.equal(ours, theirs)
