from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.nn import waveform_extractor
from auricle.nn.waveform_extractor import ExtractorConfig, WaveformExtractor

LAYERS = ((6, 10, 5), (4, 3, 2), (8, 2, 2))


def randomised(config: ExtractorConfig) -> WaveformExtractor:
    generator = torch.Generator().manual_seed(1)
    extractor = WaveformExtractor(config)
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return extractor


def straight_line(extractor: WaveformExtractor, wav: Tensor) -> Tensor:
    """Frames (T, D) of one waveform."""
    config, weights = extractor.config, extractor.state_dict()
    x = wav.view(1, 1, -1)
    for index, (_, _, stride) in enumerate(config.layers):
        weight, bias = weights[f"convs.{index}.weight"], weights.get(f"convs.{index}.bias")
        x = F.conv1d(x, weight, bias, stride)
        if config.norm == "group" and index == 0:
            x = F.group_norm(x, x.shape[1], weights["norms.0.weight"], weights["norms.0.bias"])
        if config.norm == "layer":
            mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
            x = (x - mean) / (variance + 1e-5).sqrt()
            scale, shift = weights[f"norms.{index}.weight"], weights[f"norms.{index}.bias"]
            x = x * scale.view(-1, 1) + shift.view(-1, 1)
        x = {"gelu": F.gelu, "relu": F.relu}[config.activation](x)
    return x[0].t()


@pytest.mark.parametrize(
    "config",
    [
        ExtractorConfig(layers=LAYERS),
        ExtractorConfig(layers=LAYERS, bias=True, activation="relu"),
        ExtractorConfig(layers=LAYERS, norm="layer"),
        ExtractorConfig(layers=LAYERS, norm="layer", bias=True, activation="relu"),
    ],
)
@pytest.mark.usefixtures("any_stretch")
def test_each_waveform_as_alone(config: ExtractorConfig) -> None:
    extractor = randomised(config)
    generator = torch.Generator().manual_seed(2)
    lengths = [config.geometry.min_samples(), 400, 163]
    waveforms = torch.zeros(3, 400)
    for row, length in zip(waveforms, lengths, strict=True):
        row[:length] = torch.randn(length, generator=generator)
    with torch.no_grad():
        frames = extractor(waveforms, lengths)
        for row, wav, length in zip(frames, waveforms, lengths, strict=True):
            expected = straight_line(extractor, wav[:length])
            assert len(expected) == config.geometry.num_frames(length)
            torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=1e-4)


def test_the_published_frames() -> None:
    config = ExtractorConfig()
    assert (config.dim, len(config.layers)) == (512, 7)
    geometry = config.geometry
    assert (geometry.hop_samples, geometry.window_samples) == (320, 400)
    assert [geometry.num_frames(n) for n in (399, 400, 719, 720, 16_000)] == [0, 1, 1, 2, 49]


def test_configurations_that_do_not_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 1000 convolutions, but has 0"):
        ExtractorConfig(layers=())
    with pytest.raises(ValueError, match="but has 1001"):
        ExtractorConfig(layers=((1, 1, 1),) * 1001)
    with pytest.raises(ValueError, match=r"must be at least 1, but are \(8, 0, 2\)"):
        ExtractorConfig(layers=((8, 0, 2),))


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_inference_of_a_lone_waveform_is_the_plain_computation(
    norm: Literal["group", "layer"], bias: bool, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveform_extractor, "CHUNK_FRAMES", 7)
    torch.manual_seed(0)
    layers = ((6, 10, 5), (5, 3, 2), (4, 2, 2))
    model = WaveformExtractor(ExtractorConfig(layers=layers, norm=norm, bias=bias))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    waveforms = torch.randn(2, 1_003) + offset
    plain = model(waveforms, [1_003, 640])  # gradients are recorded
    with torch.no_grad():
        lone = model(waveforms, [1_003, 640])
    for row, num_frames in enumerate([49, 31]):
        assert torch.allclose(lone[row, :num_frames], plain[row, :num_frames], atol=2e-5)
