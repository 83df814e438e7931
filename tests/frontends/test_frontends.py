"""The promises of all front ends: lengths, an inert batch, gradients."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auricle.errors import AudioError
from auricle.frontends import (
    FbankConfig,
    FrontendConfig,
    LogMelConfig,
    NemoMelConfig,
    SpeechBrainMelConfig,
)
from auricle.frontends.fbank import _mel_filters as kaldi_filters
from auricle.frontends.fbank import _window as kaldi_window
from auricle.frontends.log_mel import _cosine_transform as cosine_transform
from auricle.frontends.log_mel import _mel_filters as mel_filters
from auricle.frontends.log_mel import _window as hann_window

CONFIGS: dict[str, FrontendConfig] = {
    "fbank": FbankConfig(delta_order=1),
    "fbank_cmvn": FbankConfig(window="povey", delta_order=2, cmvn=True),
    "fbank_energies": FbankConfig(use_log=False, use_power=False, subtract_mean=True, cmvn=True),
    "mel": LogMelConfig(cmvn=False, delta_order=1),
    "mel_cmvn": LogMelConfig(),
    "mel_energies": LogMelConfig(log=False, delta_order=1),
    "linear": LogMelConfig(kind="linear", delta_order=1),
    "linear_energies": LogMelConfig(kind="linear", log=False, target_level_db=None),
    "mfcc": LogMelConfig(kind="mfcc", log=False, delta_order=2),
    "nemo": NemoMelConfig(),
    "nemo_all": NemoMelConfig(normalize="all"),
    "speechbrain": SpeechBrainMelConfig(),
}
SIGNALS = (
    "noise", "whisper", "silence", "offset", "offset_noise", "hop_tone", "tone", "cut", "click",
)  # fmt: skip
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def signal(kind: str, num_samples: int) -> Tensor:
    """(num_samples,) float32 of the kinds that catch a front end out."""
    noise = torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples))
    index = torch.arange(num_samples)
    period = torch.sin(2 * math.pi * 5 * torch.arange(160) / 160)
    signals = {
        "noise": 0.1 * noise,
        "whisper": 1e-6 * noise,
        "silence": torch.zeros(num_samples),
        "offset": torch.full((num_samples,), 0.3),
        "offset_noise": 0.5 + 1e-4 * noise,
        "hop_tone": 0.4 * period[index % 160],
        "tone": 0.4 * torch.sin(2 * math.pi * 440.3 * index / 16000),
        "cut": 0.1 * noise * (index < num_samples // 3),
        "click": (index == num_samples // 2).to(torch.float32),
    }
    return signals[kind]


def pad(waveforms: list[Tensor], fill: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=fill)


@every_config
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_the_batch_does_not_matter(config: FrontendConfig, data: st.DataObject) -> None:
    lengths = st.one_of(
        st.integers(config.min_samples, config.min_samples + 200), st.integers(1000, 9000)
    )
    drawn = data.draw(
        st.lists(st.tuples(st.sampled_from(SIGNALS), lengths), min_size=1, max_size=5)
    )
    waveforms = [signal(kind, num_samples) for kind, num_samples in drawn]
    fill = data.draw(st.sampled_from([0.0, 3.0, math.nan, math.inf]))
    batch = config.features(pad(waveforms, fill), [len(w) for w in waveforms])
    for row, waveform in zip(batch, waveforms, strict=True):
        alone = config.features(waveform.unsqueeze(0), [len(waveform)])[0]
        num_frames = config.num_frames(len(waveform))
        assert alone.shape == (num_frames, config.dim)
        assert torch.isfinite(alone).all()
        assert (row[:num_frames] - alone).abs().max() <= 1e-6 * alone.std()
        assert torch.count_nonzero(row[num_frames:]) == 0


@every_config
def test_a_long_neighbour_does_not_matter(config: FrontendConfig, speech: Tensor) -> None:
    waveforms = [speech[:1000], signal("noise", 400_000), signal("silence", 700)]
    batch = config.features(pad(waveforms, math.nan), [1000, 400_000, 700])
    for row in (0, 2):
        alone = config.features(waveforms[row].unsqueeze(0), [len(waveforms[row])])[0]
        assert (batch[row, : len(alone)] - alone).abs().max() <= 1e-6 * alone.std()


@every_config
def test_frames_are_as_many_as_the_arithmetic_says(config: FrontendConfig) -> None:
    shortest = config.min_samples
    counts = list(range(shortest, shortest + 330))
    batch = config.features(pad([signal("noise", n) for n in counts], 0.0), counts)
    assert batch.shape == (330, config.num_frames(counts[-1]), config.dim)
    for num_samples in (*counts[:3], *counts[::40]):
        alone = config.features(signal("noise", num_samples).unsqueeze(0), [num_samples])
        assert alone.shape == (1, config.num_frames(num_samples), config.dim)
    last_used = [row.abs().sum(-1).nonzero().max().item() + 1 for row in batch]
    assert last_used == [config.num_frames(n) for n in counts]


@every_config
def test_one_sample_less_than_the_least_is_refused(config: FrontendConfig) -> None:
    least = config.min_samples
    with pytest.raises(AudioError, match=rf"waveform 0 has {least - 1} samples, .* {least}:"):
        config.features(torch.zeros(1, least), [least - 1])


@every_config
def test_an_empty_batch_is_empty(config: FrontendConfig) -> None:
    assert config.features(torch.zeros(0, 0), []).shape == (0, 0, config.dim)


@every_config
def test_gradients_are_finite_and_right(config: FrontendConfig, speech: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    waveforms = torch.full((2, 3000), math.nan, dtype=torch.float64)
    waveforms[0] = 0.1 * torch.randn(3000, dtype=torch.float64, generator=generator)
    waveforms[1, :2000] = speech[3500:5500]
    num_samples = [3000, 2000]
    weights = torch.randn(config.features(waveforms, num_samples).shape, generator=generator)

    def loss(x: Tensor) -> Tensor:
        return (config.features(x, num_samples) * weights).double().sum()

    waveforms.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(waveforms), waveforms)
    assert torch.isfinite(gradient).all()
    assert torch.count_nonzero(gradient[1, 2000:]) == 0
    for row, count in enumerate(num_samples):
        # Along the gradient itself the slope is its norm; the step changes the loss by about 0.1,
        # far above float32's rounding and far below where logarithms bend.
        norm = gradient[row].norm()
        direction = torch.zeros_like(gradient)
        direction[row, :count] = gradient[row, :count] / norm
        step = 0.05 / norm
        moved = [loss(waveforms + sign * step * direction) for sign in (1, -1)]
        slope = (moved[0] - moved[1]) / (2 * step)
        # Logarithms of nearly empty bins bend within the step.
        bends = isinstance(config, LogMelConfig) and config.kind == "linear" and config.log
        torch.testing.assert_close(slope, norm, rtol=0.1 if bends else 2e-2, atol=0)


@every_config
@pytest.mark.parametrize("kind", ["silence", "offset", "cut", "hop_tone"])
def test_gradients_are_finite_where_formulas_are_not(config: FrontendConfig, kind: str) -> None:
    waveforms = signal(kind, 1600).unsqueeze(0).requires_grad_()
    features = config.features(waveforms, [1600])
    (gradient,) = torch.autograd.grad(features.square().sum(), waveforms)
    assert torch.isfinite(gradient).all()


def test_constant_features_are_exactly_zero_after_normalisation() -> None:
    for kind in ("silence", "offset", "hop_tone"):
        waveforms = signal(kind, 16000).unsqueeze(0)
        assert torch.count_nonzero(CONFIGS["fbank_cmvn"].features(waveforms, [16000])) == 0
    for name in ("mel_cmvn", "mel_energies", "linear", "mfcc"):
        assert torch.count_nonzero(CONFIGS[name].features(torch.zeros(1, 16000), [16000])) == 0


@pytest.mark.parametrize(
    "config",
    [
        FbankConfig(num_mels=37),
        LogMelConfig(num_mels=37),
        LogMelConfig(kind="mfcc", num_mfcc=11, log=False),
    ],
)
def test_training_works_after_inference_mode(config: FrontendConfig) -> None:
    waveforms = signal("noise", 1600).unsqueeze(0)
    with torch.inference_mode():
        config.features(waveforms, [1600])
    waveforms.requires_grad_()
    config.features(waveforms, [1600]).sum().backward()
    assert waveforms.grad is not None


@every_config
def test_half_precision_regions_change_nothing(config: FrontendConfig, speech: Tensor) -> None:
    waveforms = speech.unsqueeze(0)
    expected = config.features(waveforms, [9600])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(config.features(waveforms, [9600]), expected)


@pytest.mark.parametrize("name", ["fbank_cmvn", "mel_cmvn", "mfcc"])
def test_a_default_device_changes_nothing(name: str, speech: Tensor) -> None:
    waveforms, config = speech.unsqueeze(0), CONFIGS[name]
    expected = config.features(waveforms, [9600])
    for constants in (kaldi_filters, kaldi_window, mel_filters, hann_window, cosine_transform):
        constants.cache_clear()
    with torch.device("meta"):
        assert torch.equal(config.features(waveforms, [9600]), expected)


@every_config
def test_lengths_may_be_a_tensor(config: FrontendConfig, speech: Tensor) -> None:
    waveforms = speech.repeat(2, 1)
    expected = config.features(waveforms, [9600, 4000])
    assert torch.equal(config.features(waveforms, torch.tensor([9600, 4000])), expected)
    assert config.features(torch.zeros(0, 0), torch.tensor([], dtype=torch.int64)).shape[0] == 0


@every_config
def test_a_traced_batch_is_that_of_its_utterances(
    config: FrontendConfig, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [9_600, config.min_samples, 4_000]
    waveforms = speech.repeat(3, 1)
    if config.dim != CONFIGS["mfcc"].dim:  # whose cosine transform of silence is rounding alone
        waveforms[1] = 0.0
    expected = config.features(waveforms, lengths)
    waveforms[2, 4_000:] = float("nan")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    features = config.features(waveforms, torch.tensor(lengths))
    assert features.shape == expected.shape
    scale = expected.std()
    torch.testing.assert_close(features / scale, expected / scale, rtol=0, atol=5e-5)


@every_config
def test_configurations_survive_json(config: FrontendConfig) -> None:
    encoded = msgspec.json.encode(config)
    assert msgspec.json.decode(encoded, type=FrontendConfig) == config
    kinds = {FbankConfig: "fbank", LogMelConfig: "log_mel", NemoMelConfig: "nemo_mel"}
    kind = kinds.get(type(config), "speechbrain_mel")
    assert msgspec.json.decode(encoded)["type"] == kind
