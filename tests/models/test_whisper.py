"""Whisper's encoder written out for one utterance, padded to 30 s, as its authors' code pads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.errors import AudioError, AuricleError
from auricle.frontends.log_mel import whisper_log_mel
from auricle.inference.approximate import encode_windows
from auricle.models import outputs
from auricle.models.whisper import Whisper, WhisperConfig, sinusoids
from auricle.nn.cpu.policy import reference_kernels
from auricle.nn.layers import WAVEFORM_ACTIVATIONS
from golden_cases import GoldenCase, deviation

SMALL: dict[str, Any] = {
    "num_mels": 20, "max_frames": 60, "hidden_size": 8, "num_layers": 2, "num_heads": 2,
    "ffn_size": 12,
}  # fmt: skip
LONGEST = 60 * 320


def encoder(**options: Any) -> Whisper:
    torch.manual_seed(0)
    model = Whisper(WhisperConfig(**{**SMALL, **options}))
    for value in model.state_dict().values():
        value.normal_(std=0.4)
    return model.eval()


def noise(num_samples: int, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))


def reference(model: Whisper, wav: Tensor) -> list[Tensor]:
    """Every layer of one utterance: nothing is left out, and nothing is shared."""
    weights = model.state_dict()
    config, width = model.config, model.config.hidden_size
    act = WAVEFORM_ACTIVATIONS[config.activation]

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (width,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def conv(name: str, x: Tensor, stride: int) -> Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.gelu(F.conv1d(x, weight, bias, stride, padding=1))

    padded = F.pad(wav, (0, config.max_frames * 320 - len(wav))).unsqueeze(0)
    x = whisper_log_mel(padded, config.num_mels).transpose(1, 2)
    x = conv("conv2", conv("conv1", x, 1), 2)[0].T + weights["positions"]
    layers = [x]
    for index in range(config.num_layers):
        block = f"blocks.{index}"
        y = norm(f"{block}.attention_norm", x)
        heads = [
            linear(f"{block}.attention.{part}", y).unflatten(1, (config.num_heads, -1))
            for part in ("query", "key", "value")
        ]
        query, key, value = heads
        scores = torch.einsum("qhd,khd->hqk", query, key) / (width / config.num_heads) ** 0.5
        context = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).flatten(1)
        x = x + linear(f"{block}.attention.out", context)
        y = norm(f"{block}.ffn_norm", x)
        x = x + linear(f"{block}.ffn_out", act(linear(f"{block}.ffn_in", y)))
        layers.append(x)
    layers[-1] = norm("norm", x)
    return [layer[: -(-len(wav) // 320)] for layer in layers]


@pytest.mark.parametrize(
    "options", [{}, {"activation": "swish", "num_mels": 128}, {"num_heads": 4, "num_layers": 1}]
)
def test_every_layer_of_every_length_is_the_padded_computation_s(options: dict[str, Any]) -> None:
    model = encoder(**options)
    lengths = (1, 2, 319, 320, 321, 4_000, LONGEST - 1_600, LONGEST - 1_281, LONGEST - 1_280,
               LONGEST - 201, LONGEST - 1, LONGEST)  # fmt: skip
    wavs = [noise(length, length) for length in lengths]
    wavs += [torch.zeros(700), 1e-3 * noise(900), torch.cat([noise(3_000), torch.zeros(2_000)])]
    with torch.inference_mode():
        expected = [reference(model, wav) for wav in wavs]
        ours = model.layers(wavs)
        with reference_kernels():
            together = model.layers(wavs)
        for index, references in enumerate(expected):
            for number, (name, layer) in enumerate(zip(ours[index], references, strict=True)):
                assert deviation(ours[index][name], layer) <= 2e-5
                assert deviation(together[index][name], layer) <= 2e-5
                # As the deepest requested layer, without the frames of silence.
                assert deviation(model([wavs[index]], number)[0], layer) <= 2e-5


def test_a_longer_waveform_is_refused_with_what_to_do() -> None:
    model = encoder()
    wavs = [noise(9_000), noise(LONGEST + 1)]
    advice = r"waveform 1: it has 19201 samples.*19200 \(1\.2 s\) at most.*encode_windows"
    for call in (model, model.layers):
        with pytest.raises(AudioError, match=advice):
            call(wavs)
    waveforms = torch.zeros(1, LONGEST + 500)
    with pytest.raises(AudioError, match=r"at most 19200 .*lengths\[0\] is 19201"):
        model.forward_padded(waveforms, torch.tensor([LONGEST + 1]))
    frames, counts = model.forward_padded(waveforms, torch.tensor([LONGEST]))
    assert frames.shape == (1, model.num_frames(LONGEST + 500), 8)
    assert counts.tolist() == [60]


def test_windows_are_never_longer_than_the_encoder_takes() -> None:
    model = encoder()
    options = {"window_seconds": 1.2, "overlap_seconds": 0.4}
    for spare in (1, 319, 320, 321, 7_000, 20_001):
        wav = noise(LONGEST + spare)
        (output,) = encode_windows(model, [wav], **options)
        assert len(output) == model.num_frames(len(wav))
        start = -(-spare // 320) * 320
        with torch.inference_mode():
            last = model([wav[start:]])[0]
        assert torch.allclose(output[-1], last[-1], atol=1e-5)
    with pytest.raises(AuricleError, match=r"at most 1\.2 .*the most that the encoder takes"):
        encode_windows(model, [noise(9)], window_seconds=1.21, overlap_seconds=0.4)


def test_streams_are_refused_with_the_reason() -> None:
    with pytest.raises(AuricleError, match="depend on the whole utterance"):
        encoder().stream()


def test_frames_are_a_fiftieth_of_a_second_each() -> None:
    model = encoder()
    assert model.min_samples == 1
    for num_samples, frames in ((1, 1), (320, 1), (321, 2), (LONGEST, 60)):
        assert model.num_frames(num_samples) == frames
    times = model.frame_times(3_200)
    assert times[5].tolist() == [(5 * 320 - 520) / 16_000, (5 * 320 + 520) / 16_000]
    field = model.info.receptive_field
    assert field.looks_ahead
    assert field.uses_utterance_statistics
    assert field.centre_samples == 0


def test_outputs_keep_no_frames_of_silence_in_memory() -> None:
    with torch.inference_mode():
        for output in encoder().layers([noise(1_000)])[0].values():
            assert output.untyped_storage().nbytes() == output.numel() * 4


def test_batches_are_counted_in_padded_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder()
    sizes: list[int] = []
    monkeypatch.setattr(outputs, "MAX_PADDED_SECONDS", 3.0)
    encode = model.encode
    monkeypatch.setattr(
        model,
        "encode",
        lambda batch, wanted: sizes.append(len(batch.values)) or encode(batch, wanted),
    )
    with reference_kernels():
        model([noise(400)] * 5)
    assert sizes == [2, 2, 1]


def test_hooks_see_whole_sequences() -> None:
    model, shapes = encoder(), []
    wav = noise(1_000)
    with torch.inference_mode():
        (before,) = model([wav])
    for part in (model.conv1, model.blocks[1]):
        part.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    with torch.inference_mode():
        (after,) = model([wav])
    assert shapes == [(1, 8, 120), (1, 60, 8)]
    assert deviation(after, before) <= 1e-5


def test_layers_are_left_out_in_training() -> None:
    model = copy.deepcopy(encoder(layer_drop=1.0, num_layers=3)).train()
    outputs = model.layers([noise(1_000)])[0]
    assert torch.equal(outputs["layer_2"], outputs["input"])


def test_a_row_of_16_bits_is_near() -> None:
    model, wavs = encoder(), [noise(1_000), noise(5_000)]
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.inference_mode():
        for output, expected in zip(half(wavs), model(wavs), strict=True):
            assert (output - expected).square().mean().sqrt() / expected.std() < 0.1


def test_positions_begin_as_those_of_the_authors() -> None:
    published = torch.load(GoldenCase("whisper_official").checkpoints[0])["model_state_dict"]
    expected = published["encoder.positional_embedding"].float()
    torch.testing.assert_close(sinusoids(1500, 8), expected, rtol=0, atol=1e-3)  # of 16 bits
    assert sinusoids(5, 3).shape == (5, 3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"num_layers": 0}, "at least 1"),
        ({"num_mels": 0}, "num_mels must be at least 1"),
        ({"max_frames": 4}, "max_frames must be more than 4"),
    ],
)
def test_configs_that_do_not_hold(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        WhisperConfig(**{**SMALL, **options})


def test_published_sizes_have_a_feed_forward_part_four_times_as_wide() -> None:
    for config in FAMILIES["whisper"].presets().values():
        assert isinstance(config, WhisperConfig)
        assert config.ffn_size == 4 * config.hidden_size
        assert config.hidden_size == 64 * config.num_heads
        assert config.max_frames == 1500
