from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from auricle.nn import conv_stack
from auricle.nn.conv_features import (
    AggregatorConfig,
    AggregatorLayer,
    CausalAggregator,
    ConvExtractor,
    ConvExtractorConfig,
    subsampled,
)
from auricle.nn.cpu import policy

EXTRACTOR_LAYERS = ((3, 5, 2), (3, 3, 2), (4, 2, 1), (4, 3, 3))
AGGREGATOR_LAYERS = ((4, 2, 1), (4, 1, 1), (6, 3, 1))


def randomised(module: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.state_dict().values():
            weight.normal_()
    return module.eval()


def group_norm(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    scale, shift = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
    x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x if scale is None or shift is None else x * scale[:, None] + shift[:, None]


def extracted(config: ConvExtractorConfig, model: ConvExtractor, wav: torch.Tensor) -> torch.Tensor:
    """One utterance through the extractor, frame by frame as the formulas say."""
    weights = model.state_dict()
    x = wav[None]
    for index, (_, kernel, stride) in enumerate(config.layers):
        weight = weights[f"layers.{index}.conv.weight"]
        windows = x.unfold(1, kernel, stride)  # (C, T, kernel)
        y = torch.einsum("ctk,ock->ot", windows, weight)
        y = group_norm(y, weights, f"layers.{index}.norm")
        y = {"relu": torch.relu, "gelu": F.gelu}[config.activation](y)
        if config.residual_scale is not None and len(y) == len(x):
            step = x.shape[1] // y.shape[1]
            y = (y + x[:, ::step][:, : y.shape[1]]) * math.sqrt(config.residual_scale)
        x = y
    return (x.abs() + 1).log() if config.log_compression else x


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "gelu"},
        {"affine_norm": False},
        {"log_compression": False},
        {"residual_scale": 0.5},
        {"residual_scale": 0.3, "log_compression": False},
    ],
)
@pytest.mark.usefixtures("any_stretch")
def test_the_extractor_follows_the_formulas(options: dict[str, Any]) -> None:
    config = ConvExtractorConfig(layers=EXTRACTOR_LAYERS, **options)
    model = randomised(ConvExtractor(config))
    lengths = [300, 113, 41, config.geometry.min_samples()]
    wavs = torch.randn(4, 300)
    for row, length in zip(wavs, lengths, strict=True):
        row[length:] = 0.0
    frames, num_frames = model(wavs, lengths)
    assert num_frames == [config.geometry.num_frames(length) for length in lengths]
    assert num_frames[-1] == 1
    for row, wav, length, count in zip(frames, wavs, lengths, num_frames, strict=True):
        expected = extracted(config, model, wav[:length])
        assert torch.allclose(row[:, :count], expected, atol=1e-5)


def test_residuals_are_thinned_by_each_utterances_own_lengths() -> None:
    x = torch.arange(10.0).repeat(2, 1, 1)
    assert subsampled(x, [2, 4], 4).tolist() == [[[0, 2, 4, 6]], [[0, 4, 8, 9]]]


def aggregated(
    config: AggregatorConfig, model: CausalAggregator, x: torch.Tensor
) -> list[torch.Tensor]:
    """One utterance through the aggregator, as the formulas say."""
    weights = model.state_dict()
    outputs = []
    for index, (_, kernel, stride) in enumerate(config.layers):
        first = torch.zeros_like(x[:, :1]) if config.zero_padding else x[:, :1]
        windows = torch.cat([first] * (kernel - 1) + [x], dim=1).unfold(1, kernel, stride)
        y = torch.einsum("ctk,ock->ot", windows, weights[f"layers.{index}.conv.weight"])
        if config.bias:
            y = y + weights[f"layers.{index}.conv.bias"][:, None]
        y = group_norm(y, weights, f"layers.{index}.norm")
        y = {"relu": torch.relu, "gelu": F.gelu}[config.activation](y)
        if config.residual_scale is not None:
            projection = weights.get(f"layers.{index}.residual.weight")
            residual = x if projection is None else projection[:, :, 0] @ x
            y = (y + residual) * math.sqrt(config.residual_scale)
        x = y
        outputs.append(x)
    return outputs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "gelu"},
        {"affine_norm": False},
        {"bias": False},
        {"zero_padding": True},
        {"residual_scale": None},
        {"residual_scale": 0.3},
        {"residual_scale": None, "layers": ((4, 3, 2), (5, 4, 1), (2, 2, 3))},
    ],
)
@pytest.mark.usefixtures("any_stretch")
def test_the_aggregator_follows_the_formulas(options: dict[str, Any]) -> None:
    config = AggregatorConfig(**{"layers": AGGREGATOR_LAYERS, **options})
    model = randomised(CausalAggregator(config, input_dim=4))
    lengths = [20, 7, 1]
    frames = torch.randn(3, 4, 20)
    outputs = list(model(frames, lengths))
    assert len(outputs) == len(config.layers)
    for row, length in enumerate(lengths):
        for output, expected in zip(
            outputs, aggregated(config, model, frames[row, :, :length]), strict=True
        ):
            assert torch.allclose(output[row, :, : expected.shape[1]], expected, atol=1e-5)


def test_only_layers_that_change_the_width_project_their_input() -> None:
    model = CausalAggregator(AggregatorConfig(layers=AGGREGATOR_LAYERS), input_dim=4)
    assert [name for name in model.state_dict() if "residual" in name] == [
        "layers.2.residual.weight"
    ]
    without = AggregatorConfig(layers=AGGREGATOR_LAYERS, residual_scale=None)
    assert not [k for k in CausalAggregator(without, input_dim=4).state_dict() if "residual" in k]


def test_dropout_acts_in_training_alone() -> None:
    config = AggregatorConfig(layers=AGGREGATOR_LAYERS, dropout=0.5)
    model = randomised(CausalAggregator(config, input_dim=4))
    x = torch.randn(1, 4, 20)

    def context() -> torch.Tensor:
        *_, last = model(x, [20])
        return last

    assert torch.equal(context(), context())
    model.train()
    assert not torch.equal(context(), context())


@pytest.mark.parametrize(
    ("config_type", "options", "reason"),
    [
        (ConvExtractorConfig, {"layers": ()}, "at least 1"),
        (ConvExtractorConfig, {"layers": ((4, 2, 1),) * 1_001}, "at most 1000"),
        (ConvExtractorConfig, {"layers": ((4, 0, 1),)}, r"at least 1, but are \(4, 0, 1\)"),
        (ConvExtractorConfig, {"layers": ((4, 2, 1),), "residual_scale": -0.5}, "at least 0"),
        (AggregatorConfig, {"layers": ((4, 2, 2),)}, r"stride 1, but have \[2\]"),
        (AggregatorConfig, {"layers": ()}, "at least 1"),
    ],
)
def test_configurations_that_do_not_hold_are_refused(
    config_type: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        config_type(**options)


def test_long_contexts_are_computed_by_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(CausalAggregator(AggregatorConfig(layers=AGGREGATOR_LAYERS), input_dim=4))
    lengths: list[int] = []
    convolved = AggregatorLayer.convolved

    def record(layer: AggregatorLayer, x: torch.Tensor) -> torch.Tensor:
        y = convolved(layer, x)
        lengths.append(y.shape[2])
        return y

    monkeypatch.setattr(AggregatorLayer, "convolved", record)
    x = torch.randn(1, 4, 1_000)
    with torch.no_grad():
        whole = list(model(x, [1_000]))
        assert lengths == [1_000] * 3
        lengths.clear()
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", conv_stack.CPU_SHARE * 4_000)
        stretched = list(model(x, [1_000]))
    assert 3 * 1_000 <= sum(lengths) < 3 * 1_100
    assert max(lengths) <= 260
    for ours, theirs in zip(stretched, whole, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
