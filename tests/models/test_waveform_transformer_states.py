from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.info import FinalNorm
from auricle.nn import attention
from auricle.nn.attention import RelativePositionConfig
from auricle.nn.batch import Layout
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig, WaveformTransformer

LENGTHS = [9, 4, 1]
RELATIVE = RelativePositionConfig(num_buckets=8, max_distance=6)


SIZES = {
    "hidden_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 12,
    "layer_norm_eps": 1e-3,
}


def config(**options: Any) -> TransformerConfig:
    options.setdefault("positions", ConvPositionConfig(kernel_size=3, num_groups=2))
    return TransformerConfig(**{**SIZES, **options})


def randomised(**options: Any) -> WaveformTransformer:
    generator = torch.Generator().manual_seed(1)
    transformer = WaveformTransformer(config(**options), position_activation="gelu").eval()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return transformer


def frames() -> Tensor:
    return torch.randn(3, max(LENGTHS), 8, generator=torch.Generator().manual_seed(2))


class StraightLine:
    """The formulas for one utterance (T, D), head by head and query by query."""

    def __init__(self, transformer: WaveformTransformer) -> None:
        self.transformer = transformer
        self.config = transformer.config
        self.weights = transformer.state_dict()
        self.ffns: list[Tensor] = []
        """Outputs of the feed-forward parts of the last utterance."""

    def states(self, x: Tensor) -> list[Tensor]:
        self.ffns = []
        x = x + self.transformer.positions(x[None], None)[0]
        if not self.config.pre_layer_norm:
            x = self.norm(x, "norm")
        states = [x]
        for index in range(self.config.num_layers):
            states.append(self.layer(states[-1], f"layers.{index}."))
        return states

    def normed(self, states: list[Tensor], final_norm: FinalNorm) -> list[Tensor]:
        """States with the final norm of models that have one."""
        if not self.config.pre_layer_norm or final_norm == "strip":
            return states
        first = 0 if final_norm == "each" else len(states) - 1
        return [*states[:first], *(self.norm(state, "norm") for state in states[first:])]

    def layer(self, x: Tensor, prefix: str) -> Tensor:
        if self.config.pre_layer_norm:
            x = x + self.attention(self.norm(x, f"{prefix}attention_norm"), f"{prefix}attention.")
            return x + self.feed_forward(self.norm(x, f"{prefix}ffn_norm"), prefix)
        x = self.norm(x + self.attention(x, f"{prefix}attention."), f"{prefix}attention_norm")
        return self.norm(x + self.feed_forward(x, prefix), f"{prefix}ffn_norm")

    def norm(self, x: Tensor, name: str) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / (x.square().mean(1, keepdim=True) + self.config.layer_norm_eps).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"].t() + self.weights[f"{name}.bias"]

    def feed_forward(self, x: Tensor, prefix: str) -> Tensor:
        functions = {"gelu": F.gelu, "relu": F.relu}
        hidden = functions[self.config.activation](self.linear(x, f"{prefix}ffn_in"))
        self.ffns.append(self.linear(hidden, f"{prefix}ffn_out"))
        return self.ffns[-1]

    def attention(self, x: Tensor, prefix: str) -> Tensor:
        projected = [self.linear(x, f"{prefix}{name}") for name in ("query", "key", "value")]
        contexts = []
        for head in range(2):
            columns = slice(4 * head, 4 * head + 4)
            query, key, value = (projection[:, columns] for projection in projected)
            rows = []
            for index, row in enumerate(query):
                scores = key @ row / 4**0.5
                if self.config.relative_positions is not None:
                    bias = self.transformer.relative_bias(len(x)).flip(1)[head, index]
                    scores = scores + self.gate(x[index, columns], prefix, head) * bias
                rows.append(scores.softmax(0) @ value)
            contexts.append(torch.stack(rows))
        return self.linear(torch.cat(contexts, 1), f"{prefix}out")

    def gate(self, x: Tensor, prefix: str, head: int) -> Tensor:
        inputs = self.linear(x, f"{prefix}gate")
        a, b = inputs[:4].sum().sigmoid(), inputs[4:].sum().sigmoid()
        return a * (b * self.weights[f"{prefix}gate_scale"][0, head, 0, 0] - 1) + 2


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pre_layer_norm": True, "activation": "relu"},
        {"relative_positions": RELATIVE},
        {"relative_positions": RELATIVE, "pre_layer_norm": True},
        {"positions": ConvPositionConfig(kind="stack", kernel_size=3, num_groups=2, depth=2)},
    ],
)
def test_each_utterance_as_alone(options: dict[str, Any], is_packed: bool) -> None:
    transformer = randomised(**options)
    straight_line = StraightLine(transformer)
    x = frames()
    with torch.no_grad():
        layout = Layout(LENGTHS, is_packed=is_packed)
        states = [layout.rows(state) for state in transformer(x, layout)]
        assert len(states) == 3
        for index, length in enumerate(LENGTHS):
            expected = straight_line.normed(straight_line.states(x[index, :length]), "keep")
            for state, reference in zip(states, expected, strict=True):
                torch.testing.assert_close(state[index], reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    ("options", "final_norm"),
    [
        ({}, "keep"),
        ({"relative_positions": RELATIVE}, "keep"),
        ({"pre_layer_norm": True}, "keep"),
        ({"pre_layer_norm": True}, "strip"),
        ({"pre_layer_norm": True}, "each"),
        ({"relative_positions": RELATIVE, "pre_layer_norm": True}, "each"),
    ],
)
@pytest.mark.parametrize("tapped", [[0, 1], [1]])
def test_feed_forward_outputs_and_the_final_norm(
    options: dict[str, Any], final_norm: FinalNorm, tapped: list[int], is_packed: bool
) -> None:
    transformer = randomised(**options)
    straight_line = StraightLine(transformer)
    x = frames()
    with torch.no_grad():
        layout = Layout(LENGTHS, is_packed=is_packed)
        states = transformer(x, layout, tapped=tapped, final_norm=final_norm)
        rows = [layout.rows(state) for state in states]
        for index, length in enumerate(LENGTHS):
            expected = straight_line.normed(straight_line.states(x[index, :length]), final_norm)
            for layer in reversed(tapped):
                expected.insert(layer + 1, straight_line.ffns[layer])
            for row, reference in zip(rows, expected, strict=True):
                torch.testing.assert_close(row[index], reference, atol=1e-4, rtol=1e-4)


def test_a_layer_that_is_left_out_adds_nothing() -> None:
    transformer = randomised(layer_drop=1.0, dropout=0.0).train()
    with torch.no_grad():
        first, _, ffn, last = transformer(frames(), Layout(LENGTHS), tapped=[1])
    assert torch.equal(first, last)
    assert torch.equal(ffn, torch.zeros_like(last))


def test_feed_forward_outputs_come_before_dropout() -> None:
    none = {"dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.0}
    quiet = randomised(**{**none, "num_layers": 1})
    noisy = randomised(**{**none, "num_layers": 1}).train()
    noisy.layers[0].dropout = 0.5  # type: ignore[assignment]  # torch types no attributes
    noisy.layers[0].attention.out.register_forward_hook(lambda *_: torch.zeros(3, 9, 8))
    quiet.layers[0].attention.out.register_forward_hook(lambda *_: torch.zeros(3, 9, 8))
    with torch.no_grad():
        _, expected, last = quiet(frames(), Layout(LENGTHS), tapped=[0])
        _, ffn, noisy_last = noisy(frames(), Layout(LENGTHS), tapped=[0])
    torch.testing.assert_close(ffn, expected)
    assert not torch.allclose(last, noisy_last, atol=1e-2)


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = randomised(relative_positions=RELATIVE)
    with torch.no_grad():
        expected = list(transformer(frames(), Layout(LENGTHS)))[-1]
        monkeypatch.setattr(attention, "MAX_BIAS_ELEMENTS", 3 * 2 * 9 * 4)
        output = list(transformer(frames(), Layout(LENGTHS)))[-1]
    for row, reference, length in zip(output, expected, LENGTHS, strict=True):
        torch.testing.assert_close(row[:length], reference[:length])


def test_layers_are_left_out_in_training_alone() -> None:
    transformer = randomised(layer_drop=1.0, dropout=0.0, attention_dropout=0.0)
    with torch.no_grad():
        first, _, last = transformer(frames(), Layout(LENGTHS))
        assert not torch.equal(first, last)
        first, _, last = transformer.train()(frames(), Layout(LENGTHS))
    assert torch.equal(first, last)


def test_layers_to_leave_out_come_from_the_generator_that_is_given() -> None:
    transformer = randomised(
        num_layers=20, layer_drop=0.5, dropout=0.0, attention_dropout=0.0
    ).train()

    def left_out(seed: int) -> list[bool]:
        generator = torch.Generator().manual_seed(seed)
        before = torch.get_rng_state()
        with torch.no_grad():
            states = list(transformer(frames(), Layout(LENGTHS), generator))
        assert torch.equal(torch.get_rng_state(), before)
        return [torch.equal(*pair) for pair in itertools.pairwise(states)]

    assert left_out(1) == left_out(1)
    assert left_out(1) != left_out(2)
    assert 0 < sum(left_out(1)) < 20


@pytest.mark.parametrize("option", ["dropout", "attention_dropout", "activation_dropout"])
def test_dropout_acts_in_training_alone(option: str) -> None:
    none = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layer_drop": 0.0}
    transformer = randomised(relative_positions=RELATIVE, **{**none, option: 0.5})
    with torch.no_grad():
        quiet = list(transformer(frames(), Layout([9] * 3)))[-1]
        torch.manual_seed(0)
        noisy = list(transformer.train()(frames(), Layout([9] * 3)))[-1]
    assert not torch.allclose(quiet, noisy, atol=1e-3)
    plain = randomised(relative_positions=RELATIVE, **none)
    with torch.no_grad():
        assert torch.equal(list(plain.train()(frames(), Layout([9] * 3)))[-1], quiet)


def test_configurations_that_do_not_hold_are_refused() -> None:
    for num_layers in (0, 1001):
        with pytest.raises(ValueError, match=f"at most 1000 layers, but has {num_layers}"):
            TransformerConfig(num_layers=num_layers)
    with pytest.raises(ValueError, match="at least 1, but are 768, 0 and 3072"):
        TransformerConfig(num_heads=0)
    with pytest.raises(ValueError, match=r"a multiple of num_heads \(7\), but is 768"):
        TransformerConfig(num_heads=7)
    with pytest.raises(ValueError, match=r"a multiple of positions.num_groups \(5\)"):
        TransformerConfig(positions=ConvPositionConfig(num_groups=5))


def test_a_compiler_takes_batches_of_any_size() -> None:
    transformer = randomised()
    embed = torch.compile(transformer._embed, backend="eager", dynamic=True)
    try:
        with torch.no_grad():
            assert torch.allclose(embed(frames(), None), transformer._embed(frames(), None))
    finally:
        torch._dynamo.reset()
