from __future__ import annotations

import msgspec
import pytest
import torch

import auricle
from auricle.errors import AudioError, AuricleError
from auricle.models.spectral_conformer import W2vBert, W2vBertConfig
from auricle.nn.relative_positions import DistanceConfig


def small(kind: str = "key_table") -> W2vBertConfig:
    config = W2vBertConfig()
    conformer = msgspec.structs.replace(
        config.conformer,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        ffn_size=20,
        positions=DistanceConfig(kind=kind),  # type: ignore[arg-type]
    )
    return msgspec.structs.replace(config, conformer=conformer)


def test_frames_are_pairs_of_analysis_frames() -> None:
    encoder = auricle.build(small())
    assert isinstance(encoder, W2vBert)
    assert encoder.info.hop_samples == 320
    assert encoder.info.receptive_field.samples == 560
    assert encoder.min_samples == 560
    for num_samples in (560, 719, 720, 879, 880, 16_000):
        analysis_frames = 1 + (num_samples - 400) // 160
        assert encoder.num_frames(num_samples) == analysis_frames // 2
        (output,) = encoder([0.1 * torch.randn(num_samples)])
        assert output.shape == (analysis_frames // 2, 16)
    assert encoder.frame_times(879).tolist() == [[0.0, 0.035]]
    with pytest.raises(AudioError, match="560"):
        encoder([torch.zeros(559)])


@pytest.mark.parametrize("kind", ["key_table", "sinusoidal", "rotary", "none"])
def test_gradients_reach_every_weight_through_padded_batches(kind: str) -> None:
    torch.manual_seed(0)
    encoder = auricle.build(small(kind))
    waveforms = 0.1 * torch.randn(2, 9_000)
    waveforms[1, 6_000:] = torch.nan
    frames, lengths = encoder.forward_padded(waveforms, torch.tensor([9_000, 6_000]))
    assert lengths.tolist() == [27, 18]
    frames.square().mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    (alone,) = encoder([waveforms[1, :6_000]])
    torch.testing.assert_close(frames[1, :18], alone, rtol=1e-4, atol=1e-4)


def test_it_neither_streams_nor_gives_codes() -> None:
    encoder = auricle.build(small())
    with pytest.raises(AuricleError, match="attention lets every frame"):
        encoder.stream()
    with pytest.raises(AuricleError, match="has no quantiser"):
        encoder.codes([torch.zeros(1_000)])
