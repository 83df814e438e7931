from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.errors import AuricleError
from auricle.models.wav2vec import Wav2Vec, Wav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from golden_cases import BATCH_LIMIT, deviation
from streams import CUT_LIMIT, streamed

EXTRACTOR: dict[str, Any] = {"layers": ((4, 10, 5), (4, 4, 2), (4, 3, 1), (4, 1, 1))}
AGGREGATOR: dict[str, Any] = {"layers": ((4, 2, 1), (6, 3, 1), (6, 4, 1))}


def encoder(
    extractor: dict[str, Any] | None = None, aggregator: dict[str, Any] | None = None, **options: Any
) -> Wav2Vec:  # fmt: skip
    torch.manual_seed(0)
    config = Wav2VecConfig(
        extractor=ConvExtractorConfig(**{**EXTRACTOR, **(extractor or {})}),
        aggregator=AggregatorConfig(**{**AGGREGATOR, **(aggregator or {})}),
        **options,
    )
    model = Wav2Vec(config).requires_grad_(False)
    for name, value in model.state_dict().items():
        value.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.3)
    return model.eval()


def noise(num_samples: int) -> Tensor:
    return 0.3 * torch.randn(num_samples, generator=torch.Generator().manual_seed(2)) + 0.1


UNSTRIDED = ((4, 10, 5), (5, 4, 2), (5, 3, 1), (5, 1, 1))

VARIANTS: list[dict[str, Any]] = [
    {},
    {"normalize": True},
    {"extractor": {"affine_norm": False, "log_compression": False, "activation": "gelu"}},
    {"extractor": {"layers": UNSTRIDED, "residual_scale": 0.7}},
    {"aggregator": {"zero_padding": True}},
    {"aggregator": {"affine_norm": False, "bias": False}},
    {"aggregator": {"residual_scale": None, "layers": ((4, 3, 2), (4, 2, 1), (4, 2, 3))}},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_by_its_own_statistics_a_stream_is_the_whole(options: dict[str, Any]) -> None:
    model = encoder(**options)
    for num_samples in (3_000, 401):
        wav = noise(num_samples)
        statistics = model.stream_statistics([wav])
        for layer in model.info.layers:
            with torch.inference_mode():
                (expected,) = model([wav], layer)
            for cuts in ([], [50, 1, 333]):
                frames = streamed(model, wav, cuts, layer=layer, normalisation=statistics)
                assert deviation(frames, expected) <= BATCH_LIMIT, (layer, num_samples)


@pytest.mark.parametrize("num_samples", range(31, 75, 3))
def test_a_residual_without_strides_is_exact_for_the_shortest_too(num_samples: int) -> None:
    """There the encoder thins by the ratio of few frames to fewer."""
    layers = ((4, 10, 5), (5, 1, 1), (5, 4, 1))
    model = encoder({"layers": layers, "residual_scale": 0.7})
    wav = noise(num_samples)
    statistics = model.stream_statistics([wav])
    with torch.inference_mode():
        (expected,) = model([wav], "z")
    for cuts in ([], [1]):
        frames = streamed(model, wav, cuts, layer="z", normalisation=statistics)
        assert deviation(frames, expected) <= BATCH_LIMIT


def running_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Of (C, T): each frame by mean and variance of all values up to it, the plain way."""
    normed = torch.empty_like(x)
    for t in range(x.shape[1]):
        seen = x[:, : t + 1]
        normed[:, t] = (x[:, t] - seen.mean()) / (seen.var(correction=0) + eps).sqrt()
    return normed


def reference(model: Wav2Vec, wav: Tensor) -> dict[str, Tensor]:
    """Layers of a stream by running norms, float64, each (T, D)."""
    config = model.config
    weights = {name: value.double() for name, value in model.state_dict().items()}

    def affine(x: Tensor, name: str) -> Tensor:
        if f"{name}.norm.weight" not in weights:
            return x
        return x * weights[f"{name}.norm.weight"][:, None] + weights[f"{name}.norm.bias"][:, None]

    x = wav.double()[None]
    if config.normalize:
        x = running_norm(x)
    for index, (_, _, stride) in enumerate(config.extractor.layers):
        name = f"extractor.layers.{index}"
        x = F.conv1d(x, weights[f"{name}.conv.weight"], stride=stride)
        x = affine(running_norm(x), name).clamp(min=0)
    x = (x.abs() + 1).log()
    layers = {"z": x.T}
    for index, (layer_name, (dim, size, _)) in enumerate(
        zip(model.context_names, config.aggregator.layers, strict=True)
    ):
        name = f"aggregator.layers.{index}"
        past = x[:, :1].expand(-1, size - 1)
        y = F.conv1d(
            torch.cat([past, x], dim=1),
            weights[f"{name}.conv.weight"],
            weights[f"{name}.conv.bias"],
        )
        y = affine(running_norm(y), name).clamp(min=0)
        if x.shape[0] != dim:
            x = F.conv1d(x, weights[f"{name}.residual.weight"])
        x = (x + y) * math.sqrt(0.5)
        layers[layer_name] = x.T
    return layers


@pytest.mark.parametrize("normalize", [False, True])
def test_running_norms_go_by_all_frames_so_far(normalize: bool) -> None:
    model = encoder(normalize=normalize)
    wav = noise(1_200)
    for layer, expected in reference(model, wav).items():
        for cuts in ([], [29]):
            frames = streamed(model, wav, cuts, layer=layer)
            assert deviation(frames, expected.float()) <= BATCH_LIMIT, layer


@pytest.mark.parametrize("options", VARIANTS)
def test_cuts_do_not_matter(options: dict[str, Any]) -> None:
    model = encoder(**options)
    wav = noise(1_500)
    for layer in model.info.layers:
        at_once = streamed(model, wav, layer=layer)
        for cuts in ([1, 150], [160, 0, 7]):
            assert deviation(streamed(model, wav, cuts, layer=layer), at_once) <= CUT_LIMIT


def test_a_residual_over_strides_is_refused() -> None:
    model = encoder({"residual_scale": 0.5})
    with pytest.raises(AuricleError, match="residual_scale.*strides.*ratio of the whole"):
        model.stream()
    # Even for a layer that comes before the aggregator.
    with pytest.raises(AuricleError, match="residual_scale"):
        model.stream("z")
