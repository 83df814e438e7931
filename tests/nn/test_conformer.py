from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.errors import AudioError
from auricle.info import FinalNorm
from auricle.nn.batch import Layout, pad_rows
from auricle.nn.conformer import Conformer, ConformerConfig
from auricle.nn.cpu import policy
from auricle.nn.relative_positions import DistanceConfig

SMALL = ConformerConfig(
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    ffn_size=24,
    kernel_size=5,
    positions=DistanceConfig(kind="none"),
    layer_drop=0.0,
)
CONFIGS: dict[str, dict[str, Any]] = {
    "as wav2vec 2.0": {"final_norm": "last"},
    "as w2v-BERT": {"conv_norm": "layer", "is_causal": True, "block_norm_eps": 1e-3},
    "norm first": {"final_norm": "first", "layer_norm_eps": 1e-2, "activation": "gelu"},
}
every_config = pytest.mark.parametrize("options", CONFIGS.values(), ids=list(CONFIGS))


def conformer_of(options: dict[str, Any]) -> Conformer:
    torch.manual_seed(0)
    stack = Conformer(msgspec.structs.replace(SMALL, **options)).eval()
    with torch.no_grad():
        for tensor in stack.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.2 * torch.rand(tensor.shape)
    return stack


def expected(stack: Conformer, x: Tensor, final_norm: FinalNorm = "keep") -> list[Tensor]:
    """States (T, D) for one utterance `x` (T, D), by the equations of the paper."""
    config, weights = stack.config, stack.state_dict()
    act = F.gelu if config.activation == "gelu" else F.silu

    def normed(name: str, x: Tensor, eps: float) -> Tensor:
        pair = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], *pair, eps)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    if config.final_norm == "first":
        x = normed("norm", x, config.layer_norm_eps)
    states = [x]
    for index in range(config.num_layers):
        place, eps = f"layers.{index}.", config.block_norm_eps

        def feed(name: str, x: Tensor, place: str = place, eps: float = eps) -> Tensor:
            y = act(linear(f"{place}{name}.linear_in", normed(f"{place}{name}.norm", x, eps)))
            return linear(f"{place}{name}.linear_out", y)

        x = x + 0.5 * feed("ffn1", x)
        y = normed(f"{place}attention_norm", x, eps)
        heads = [
            linear(f"{place}attention.{name}", y).view(len(x), 2, 8).transpose(0, 1)
            for name in ("query", "key", "value")
        ]
        scores = (heads[0] @ heads[1].transpose(1, 2) / 8**0.5).softmax(-1)
        context = (scores @ heads[2]).transpose(0, 1).flatten(1)
        x = x + linear(f"{place}attention.out", context)
        y = (
            normed(f"{place}conv.norm", x, eps)
            @ weights[f"{place}conv.pointwise_in.weight"][..., 0].T
        )
        y = y[:, :16] * y[:, 16:].sigmoid()
        sides = (4, 0) if config.is_causal else (2, 2)
        y = F.conv1d(F.pad(y.T, sides), weights[f"{place}conv.depthwise.weight"], groups=16).T
        norm = f"{place}conv.depthwise_norm"
        if config.conv_norm == "layer":
            y = normed(norm, y, eps)
        else:
            mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
            y = (y - mean) / (variance + eps).sqrt()
            y = y * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]
        x = x + act(y) @ weights[f"{place}conv.pointwise_out.weight"][..., 0].T
        x = normed(f"{place}norm", x + 0.5 * feed("ffn2", x), eps)
        states.append(x)
    if config.final_norm != "last" or final_norm == "strip":
        return states
    first = 0 if final_norm == "each" else config.num_layers
    ends = [normed("norm", state, config.layer_norm_eps) for state in states[first:]]
    return [*states[:first], *ends]


@every_config
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("is_long", [False, True])
def test_states_are_the_paper_s(
    options: dict[str, Any], is_packed: bool, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_long:
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 600)
    stack = conformer_of(options)
    rows = [torch.randn(length, 16) for length in (9, 1, 4)]
    layout = Layout([len(row) for row in rows], is_packed=is_packed)
    with torch.no_grad():
        padded = pad_rows(rows)
        padded[1, 1:] = 7.0  # padding may hold anything
        states = [layout.rows(state) for state in stack(padded, layout)]
        for index, row in enumerate(rows):
            for state, reference in zip(states, expected(stack, row), strict=True):
                torch.testing.assert_close(state[index], reference, rtol=1e-4, atol=2e-5)


@every_config
@pytest.mark.parametrize("final_norm", ["strip", "each"])
def test_a_norm_after_the_last_block_goes_where_it_is_asked_for(
    options: dict[str, Any], final_norm: FinalNorm
) -> None:
    stack = conformer_of(options)
    row = torch.randn(9, 16)
    with torch.no_grad():
        states = list(stack(row[None], Layout([9]), final_norm=final_norm))
        for state, reference in zip(states, expected(stack, row, final_norm), strict=True):
            torch.testing.assert_close(state[0], reference, rtol=1e-4, atol=2e-5)


def test_batch_norm_learns_of_valid_frames_alone() -> None:
    stack = conformer_of({"conv_dropout": 0.0}).train()
    rows = [torch.randn(length, 16) for length in (9, 4)]
    layout = Layout([9, 4])
    *_, alone = stack(pad_rows(rows), layout)
    norm = stack.layers[0].conv.depthwise_norm
    mean = norm.running_mean.clone()
    other = conformer_of({"conv_dropout": 0.0}).train()
    padded = torch.cat([pad_rows(rows), torch.full((2, 6, 16), 5.0)], dim=1)
    *_, output = other(padded, layout)
    for ours, theirs in zip(layout.rows(output), layout.rows(alone), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.layers[0].conv.depthwise_norm.running_mean, mean)
    with pytest.raises(AudioError, match="one"):
        list(stack(torch.randn(1, 1, 16), Layout([1])))


def test_training_drops_layers_and_values() -> None:
    stack = conformer_of({"layer_drop": 1.0}).train()
    x = torch.randn(1, 6, 16)
    first, *others = stack(x, Layout([6]))
    assert all(torch.equal(state, first) for state in others)
    drops = ("dropout", "attention_dropout", "activation_dropout", "conv_dropout")
    for name in drops:
        options = {**dict.fromkeys(drops, 0.0), name: 0.5, "conv_norm": "layer"}
        stack = conformer_of(options).train()
        *_, one = stack(x, Layout([6]))
        *_, other = stack(x, Layout([6]))
        assert not torch.equal(one, other), name


def test_parts_for_int8_are_linear_layers() -> None:
    block = conformer_of({}).layers[0]
    assert len(block.linears()) == 8
    assert all(isinstance(part, nn.Linear) for part in block.linears())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "at least 1"),
        ({"ffn_size": 0}, "at least 1"),
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"hidden_size": 6, "positions": DistanceConfig(kind="rotary")}, "even width"),
        (
            {"hidden_size": 9, "num_heads": 3, "positions": DistanceConfig(kind="sinusoidal")},
            "even",
        ),
    ],
)
def test_what_does_not_hold_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(SMALL, **options)
