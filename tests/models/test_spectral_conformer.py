from __future__ import annotations

import msgspec
import pytest
import torch

import auricle
from auricle.errors import AudioError, AuricleError
from auricle.frontends import SpeechBrainMelConfig
from auricle.models.base import Encoder
from auricle.models.spectral_conformer import (
    BestRqConfig,
    ParakeetConfig,
    W2vBert,
    W2vBertConfig,
)
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.subsampling import ReflectingConfig, StridingConfig


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


def tiny(family: str) -> Encoder:
    """An encoder of a family, as published but narrow and shallow."""
    config = {"parakeet": ParakeetConfig(), "bestrq": BestRqConfig()}[family]
    narrow = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 20}
    conformer = msgspec.structs.replace(config.conformer, layer_drop=0.0, **narrow)
    fronts = {
        "parakeet": {"subsampling": StridingConfig(channels=4)},
        "bestrq": {"front": ReflectingConfig(channels=(4, 2))},
    }
    torch.manual_seed(0)
    return auricle.build(msgspec.structs.replace(config, conformer=conformer, **fronts[family]))


subsampled = pytest.mark.parametrize("family", ["parakeet", "bestrq"])


@subsampled
def test_frames_are_counted_and_timed_by_arithmetic(family: str) -> None:
    encoder = tiny(family)
    assert encoder.min_samples == 320
    assert encoder.info.hop_samples == {"parakeet": 1280, "bestrq": 640}[family]
    for num_samples in (320, 1_279, 1_280, 1_440, 16_000):
        frames = num_samples // 160 if family == "parakeet" else 1 + num_samples // 160
        for _ in range(3 if family == "parakeet" else 2):
            frames = (frames - 1) // 2 + 1
        assert encoder.num_frames(num_samples) == frames
        (output,) = encoder([0.1 * torch.randn(num_samples)])
        assert output.shape == (frames, 16)
    # Of the windows of the spectrum, 25 ms wide, each frame spans 15 or 7.
    start, end = encoder.frame_times(32_000)[5].tolist()
    assert end - start == pytest.approx(0.165 if family == "parakeet" else 0.085)
    with pytest.raises(AudioError, match="320"):
        encoder([torch.zeros(319)])


@subsampled
def test_gradients_reach_the_front_too(family: str) -> None:
    encoder = tiny(family).train()
    waveforms = 0.1 * torch.randn(2, 9_000)
    waveforms[1, 6_000:] = torch.nan
    frames, lengths = encoder.forward_padded(waveforms, torch.tensor([9_000, 6_000]))
    sum(row[:count].square().mean() for row, count in zip(frames, lengths, strict=True)).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@subsampled
def test_they_do_not_stream(family: str) -> None:
    with pytest.raises(AuricleError, match="attention lets every frame"):
        tiny(family).stream()


def test_the_norm_after_the_last_block_can_be_left_out() -> None:
    encoder = tiny("bestrq")
    wav = 0.1 * torch.randn(5_000)
    assert encoder.has_final_norm
    assert not tiny("parakeet").has_final_norm
    raw = encoder([wav], final_norm="strip")[0]
    normed = encoder.conformer.norm(raw)
    torch.testing.assert_close(encoder([wav])[0], normed)


def test_mirrored_fronts_say_how_much_they_need() -> None:
    front = ReflectingConfig(channels=(4, 2), kernel_sizes=(5, 5))
    config = msgspec.structs.replace(BestRqConfig(), front=front)
    narrow = msgspec.structs.replace(config.conformer, hidden_size=16, num_layers=1, ffn_size=8)
    encoder = auricle.build(msgspec.structs.replace(config, conformer=narrow))
    assert encoder.min_samples == 640  # five analysis frames, three for the second convolution
    with pytest.raises(ValueError, match="num_mels must leave more bands"):
        BestRqConfig(features=SpeechBrainMelConfig(num_mels=3), front=front)


@pytest.mark.whole
@pytest.mark.parametrize("family", ["w2v_bert", "parakeet", "bestrq"])
def test_they_export_with_any_length(family: str) -> None:
    encoder = auricle.build(small()) if family == "w2v_bert" else tiny(family)
    batch, samples = torch.export.Dim("batch"), torch.export.Dim("samples", min=2_000)
    program = torch.export.export(
        encoder.padded_module(),
        (torch.zeros(2, 9_000), torch.tensor([9_000, 7_000])),
        dynamic_shapes=({0: batch, 1: samples}, {0: batch}),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    lengths = [15_000, 4_000, 14_321]
    waveforms = 0.1 * torch.randn(3, 15_000)
    frames, counts = program.module()(waveforms, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        (alone,) = encoder([waveforms[row, :length]])
        assert len(alone) == counts[row]
        torch.testing.assert_close(frames[row, : counts[row]], alone, rtol=1e-4, atol=1e-4)
