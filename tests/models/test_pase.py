from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.errors import AudioError, AuricleError
from auricle.models.pase import Pase, PaseConfig
from auricle.nn.batch import Batch
from golden_cases import shared_encoder

PRESETS = FAMILIES["pase"].presets()

SMALL: dict[str, Any] = {
    "kernel_sizes": (31, 20, 11, 4, 1),
    "strides": (1, 10, 2, 1, 2),
    "block_dims": (3, 4, 5, 4, 6),
    "embedding_dim": 4,
}
PLUS: dict[str, Any] = {"rnn_dim": 5, "num_rnn_layers": 2, "skip_merge": "sum"}


def encoder(**options: Any) -> Pase:
    torch.manual_seed(0)
    model = Pase(PaseConfig(**{**SMALL, **options}))
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point() and "_hz" not in name:
            value.normal_(std=0.4)
    return model.eval()


def batch_norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    mean, var = (weights[f"{name}.{part}"].unsqueeze(1) for part in ("running_mean", "running_var"))
    return (x - mean) / (var + 1e-5).sqrt()


def qrnn(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One quasi-recurrent layer over frames `x` (T, D)."""
    frames, state = [], torch.zeros(len(bias) // 3, dtype=x.dtype)
    before = torch.zeros_like(x[0])
    for frame in x:
        z, f, o = (weight @ torch.cat([frame, before]) + bias).chunk(3)
        state = f.sigmoid() * z.tanh() + (1 - f.sigmoid()) * state
        frames.append(o.sigmoid() * state)
        before = frame
    return torch.stack(frames)


def reference(model: Pase, wav: Tensor) -> dict[str, Tensor]:
    """Every layer of one utterance as the papers describe it: no batch, float64."""
    config = model.config
    weights = {name: value.double() for name, value in model.state_dict().items()}
    layers: dict[str, Tensor] = {}
    x = wav.double().unsqueeze(0)
    for index, (size, stride) in enumerate(zip(config.kernel_sizes, config.strides, strict=True)):
        name = f"blocks.{index}"
        kernel = (
            model.blocks[0].conv.filters().double()
            if index == 0
            else weights[f"{name}.conv.weight"]
        )
        left = size // 2 - (stride > 1 or size % 2 == 0) if size > 1 else 0
        x = F.pad(x, (left, size // 2), mode="reflect")
        x = F.conv1d(x, kernel, weights.get(f"{name}.conv.bias"), stride=stride)
        x = batch_norm(x, weights, f"{name}.norm") * weights[f"{name}.norm.weight"].unsqueeze(1)
        x = x + weights[f"{name}.norm.bias"].unsqueeze(1)
        x = torch.where(x > 0, x, x * weights[f"{name}.activation.weight"].unsqueeze(1))
        layers[f"block_{index + 1}"] = x.T
    num_frames = x.shape[1]
    frames = x.T
    if config.rnn_dim is not None:
        for index in range(config.num_rnn_layers):
            name = f"rnn.layers.{index}"
            frames = qrnn(frames, weights[f"{name}.weight"], weights[f"{name}.bias"])
        layers["rnn"] = frames
    parts = [frames @ weights["project.weight"][..., 0].T + weights["project.bias"]]
    for index in range(config.num_skips):
        skip = layers[f"block_{index + 1}"] @ weights[f"skips.{index}.weight"][..., 0].T
        size = len(skip) // num_frames
        skip = torch.stack([skip[k * size : (k + 1) * size].mean(0) for k in range(num_frames)])
        layers[f"skip_{index + 1}"] = skip
        parts.append(skip)
    embedding = torch.cat(parts, dim=1) if config.skip_merge == "concat" else sum(parts)
    assert isinstance(embedding, Tensor)
    if config.normalizes_output:
        embedding = batch_norm(embedding.T, weights, "output_norm").T
    layers["embedding"] = embedding
    return layers


@pytest.mark.parametrize(
    "options",
    [
        {},
        PLUS,
        {**PLUS, "skip_merge": "concat"},
        {**PLUS, "rnn_dim": None, "normalizes_output": False},
        {"strides": (2, 5, 1, 1, 2), "skip_merge": "sum"},
    ],
    ids=["pase", "plus", "concat", "no rnn", "strided sinc"],
)
@pytest.mark.usefixtures("any_stretch")
def test_layers_in_a_ragged_batch(options: dict[str, Any]) -> None:
    model = encoder(**options)
    # 24479 and its like: the groups of a skip are not as wide as the product of strides.
    wavs = [torch.randn(length) for length in (model.min_samples, 1700, 639, 1019, 1700)]
    wavs[1] += 0.5
    wavs[2][300:] = 0.0
    with torch.inference_mode():
        outputs = model.layers(wavs)
    for wav, layers in zip(wavs, outputs, strict=True):
        expected = reference(model, wav)
        assert list(layers) == [info.name for info in model.layer_infos]
        assert set(layers) == set(expected)
        for name, output in layers.items():
            assert output.shape == expected[name].shape, name
            assert torch.allclose(output.double(), expected[name], atol=2e-5), name


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = Pase(PRESETS[name])
    assert model.min_samples == 471
    for num_samples in (471, 480, 16_000, 24_479):
        assert model.num_frames(num_samples) == -(-num_samples // 10) // 16
        assert model.num_frames(num_samples, layer="block_1") == num_samples
    if name == "pase_plus":
        count = sum(parameter.numel() for parameter in model.parameters())
        assert count == pytest.approx(7.83e6, rel=0.001)


def test_the_shortest_waveform_is_the_shortest_that_can_be_mirrored() -> None:
    model = encoder()
    fewest = model.min_samples
    with torch.inference_mode():
        assert torch.isfinite(model([torch.randn(fewest)])[0]).all()
        with pytest.raises(AudioError, match=str(fewest)):
            model([torch.randn(fewest - 1)])
        with pytest.raises(RuntimeError, match="[Pp]adding size"):
            reference(model, torch.randn(fewest - 1))


def test_layers_that_are_not_wanted_are_left_out() -> None:
    model = encoder(**PLUS)
    batch = torch.randn(1, 1000)

    def yielded(*wanted: str) -> list[str]:
        return [name for name, _ in model.encode(Batch.padded(batch, [1000]), frozenset(wanted))]

    blocks = [f"block_{index}" for index in range(1, 6)]
    assert yielded("skip_2") == ["block_1", "block_2", "skip_2"]
    assert yielded("block_5", "skip_1") == [*blocks, "skip_1"]
    assert yielded("rnn") == [*blocks, "rnn"]
    assert yielded("embedding")[-1] == "embedding"


def test_what_a_frame_depends_on() -> None:
    assert encoder(**PLUS).sees_past
    assert not encoder().sees_past
    assert not encoder().looks_ahead


def test_gradients_reach_the_band_edges() -> None:
    model = encoder(**PLUS).train()
    loss = sum(output.square().sum() for output in model([torch.randn(900), torch.randn(700)]))
    assert isinstance(loss, Tensor)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_streams_are_refused_and_those_of_pase_plus_for_one_more_reason() -> None:
    with pytest.raises(AuricleError, match="mirror the end of the waveform; call"):
        shared_encoder("pase").stream()
    with pytest.raises(AuricleError, match="mirror the end of the waveform; its skips"):
        shared_encoder("pase_plus").stream()
