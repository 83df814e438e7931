from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.models.waveform_transformer import Wav2Vec2, Wav2Vec2Config, WaveformTransformerConfig
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig

EXTRACTOR = ExtractorConfig(layers=((8, 10, 5), (8, 3, 2), (16, 2, 2)))
TRANSFORMER = TransformerConfig(
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    ffn_size=24,
    positions=ConvPositionConfig(kernel_size=8, num_groups=2),
)


def build(**options: Any) -> Wav2Vec2:
    torch.manual_seed(0)
    options = {"extractor": EXTRACTOR, "transformer": TRANSFORMER, **options}
    return Wav2Vec2(Wav2Vec2Config(**options)).eval()


def noise(num_samples: int) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(1))


def call(encoder: Wav2Vec2, wav: Tensor, layer: int | str | None = None) -> Tensor:
    with torch.inference_mode():
        return encoder([wav], layer)[0]


def test_normalised_waveforms() -> None:
    wav = noise(900)
    plain = build(extractor=ExtractorConfig(layers=EXTRACTOR.layers, norm="layer"))
    for eps in (1e-5, 1e-2):
        encoder = build(extractor=plain.config.extractor, normalize=True, normalize_eps=eps)
        encoder.load_state_dict(plain.state_dict())
        scaled = (wav - wav.mean()) / (wav.var(unbiased=False) + eps).sqrt()
        torch.testing.assert_close(call(encoder, wav), call(plain, scaled), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(call(plain, wav), call(plain, scaled), atol=1e-2)


def test_an_offset_changes_nothing_behind_a_group_norm() -> None:
    # Quiet, and on a grid where adding the offset rounds nothing off.
    wav = (noise(2_000) * 1e-2 * 2**22).round() / 2**22
    for bias in (False, True):
        encoder = build(extractor=ExtractorConfig(layers=EXTRACTOR.layers, bias=bias))
        expected = call(encoder, wav)
        difference = (call(encoder, wav + 0.5) - expected).abs().max()
        assert difference <= 1e-5 * expected.std()
    layer_norm = build(extractor=ExtractorConfig(layers=EXTRACTOR.layers, norm="layer"))
    assert not torch.allclose(call(layer_norm, wav + 0.5), call(layer_norm, wav), atol=1e-2)


def test_what_lies_between_extractor_and_transformer() -> None:
    wav = noise(900)
    encoder = build(projection_norm=False, projection=False)
    assert not {name for name in encoder.state_dict() if name.startswith("projection")}
    full = build()
    full.load_state_dict(encoder.state_dict(), strict=False)
    with torch.no_grad():
        full.projection.weight.copy_(torch.eye(16))
        full.projection.bias.zero_()
    assert not torch.allclose(call(full, wav), call(encoder, wav), atol=1e-2)
    without_norm = build(projection_norm=False)
    without_norm.load_state_dict(full.state_dict(), strict=False)
    torch.testing.assert_close(call(without_norm, wav), call(encoder, wav))


def test_layers_and_what_their_frames_see() -> None:
    encoder = build()
    infos = encoder.layer_infos
    assert [info.name for info in infos] == ["input", "layer_1", "layer_2"]
    assert encoder.default_layer == "layer_2"
    frames = EXTRACTOR.geometry
    assert encoder.min_samples == frames.min_samples()
    for info in infos:
        geometry = info.geometry
        assert (info.dim, geometry.hop_samples) == (16, 20)
        assert geometry == frames
        assert geometry.num_frames(1_234) == frames.num_frames(1_234)
    assert call(encoder, noise(encoder.min_samples)).shape == (1, 16)


def test_what_depends_on_the_whole_utterance() -> None:
    layer_norm = ExtractorConfig(layers=EXTRACTOR.layers, norm="layer")
    assert build().uses_utterance_statistics
    assert build(extractor=layer_norm, normalize=True).uses_utterance_statistics
    assert not build(extractor=layer_norm).uses_utterance_statistics
    assert build().looks_ahead


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_other_types(dtype: torch.dtype) -> None:
    wavs = [noise(900), noise(2_000)]
    for options in ({}, {"normalize": True}):
        encoder = build(**options)
        with torch.inference_mode():
            expected = encoder(wavs)
            outputs = encoder.to(dtype)(wavs)
        for output, reference in zip(outputs, expected, strict=True):
            assert output.dtype == torch.float32
            tolerance = 1e-4 if dtype == torch.float64 else 0.15
            torch.testing.assert_close(output, reference, atol=tolerance, rtol=tolerance)


def test_gradients_reach_every_weight_in_training() -> None:
    transformer = TransformerConfig(
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        ffn_size=24,
        positions=TRANSFORMER.positions,
        layer_drop=0.0,
    )
    encoder = build(transformer=transformer).train()
    torch.stack(
        [output.square().sum() for output in encoder([noise(900), noise(2_000)])]
    ).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_missing_projection_needs_equal_widths() -> None:
    with pytest.raises(ValueError, match="are 512 and 768 wide"):
        WaveformTransformerConfig(projection=False)
