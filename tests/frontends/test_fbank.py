"""The Kaldi filterbank against kaldi-native-fbank, Kaldi's own C++ code."""

from __future__ import annotations

from typing import Any

import kaldi_native_fbank as knf
import msgspec
import pytest
import torch
from torch import Tensor

from auricle.frontends import FbankConfig
from auricle.frontends.fbank import _mel_filters

NATIVE_DEFAULTS = FbankConfig()


def native_fbank(waveform: Tensor, config: FbankConfig) -> Tensor:
    """(samples,) -> (frames, num_mels) by the C++ code, in float32 throughout."""
    options = knf.FbankOptions()
    frame = options.frame_opts
    frame.samp_freq = config.sample_rate
    frame.dither = 0.0
    frame.frame_length_ms = config.frame_length_ms
    frame.frame_shift_ms = config.frame_shift_ms
    frame.window_type = config.window
    frame.blackman_coeff = config.blackman_coeff
    frame.preemph_coeff = config.preemphasis
    frame.remove_dc_offset = config.remove_dc_offset
    frame.round_to_power_of_two = config.round_to_power_of_two
    frame.snip_edges = True
    options.mel_opts.num_bins = config.num_mels
    options.mel_opts.low_freq = config.low_hz
    options.mel_opts.high_freq = config.high_hz
    options.use_energy = False
    options.use_log_fbank = config.use_log
    options.use_power = config.use_power
    native = knf.OnlineFbank(options)
    native.accept_waveform(config.sample_rate, waveform.tolist())
    native.input_finished()
    return torch.stack([torch.tensor(native.get_frame(t)) for t in range(native.num_frames_ready)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": "povey"},
        {"window": "hanning"},
        {"window": "rectangular"},
        {"window": "blackman"},
        {"window": "blackman", "blackman_coeff": 0.3},
        {"num_mels": 40, "frame_length_ms": 20, "frame_shift_ms": 12.5},
        {"num_mels": 23, "round_to_power_of_two": False},
        {"preemphasis": 0.0},
        {"preemphasis": 0.5},
        {"remove_dc_offset": False},
        {"use_log": False},
        {"use_log": False, "use_power": False},
        {"low_hz": 100.0, "high_hz": 6000.0},
        {"high_hz": -500.0},
        {"sample_rate": 8000, "num_mels": 40},
    ],
)
def test_matches_kaldi(speech: Tensor, options: dict[str, Any]) -> None:
    config = FbankConfig(**options)
    # An offset makes `remove_dc_offset` visible; the noise keeps bands above float32's rounding.
    noise = torch.randn(len(speech), generator=torch.Generator().manual_seed(1))
    waveform = speech + 0.02 + 1e-3 * noise
    expected = native_fbank(waveform, config)
    actual = config.features(waveform.unsqueeze(0), [len(waveform)])[0]
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() <= 1e-4 * expected.std()
    if config != NATIVE_DEFAULTS and "sample_rate" not in options:
        default = NATIVE_DEFAULTS.features(waveform.unsqueeze(0), [len(waveform)])[0]
        assert (
            default.shape != actual.shape or (default - actual).abs().max() > 1e-2 * expected.std()
        )


def test_silence_lies_at_the_floor() -> None:
    features = FbankConfig().features(torch.zeros(1, 800), [800])
    assert torch.equal(features, torch.full((1, 3, 80), -15.942385))


def test_mel_filters_leave_out_the_nyquist_bin() -> None:
    filters = _mel_filters(FbankConfig())
    assert filters.shape == (257, 80)
    assert filters[-1].abs().max() == 0.0
    assert filters[-2, -1] > 0.0


def test_subtract_mean_comes_before_the_deltas(speech: Tensor) -> None:
    waveforms = speech.unsqueeze(0)
    plain = FbankConfig(delta_order=1).features(waveforms, [9600])
    centred = FbankConfig(delta_order=1, subtract_mean=True).features(waveforms, [9600])
    expected = plain[..., :80].double() - plain[..., :80].double().mean(1, keepdim=True)
    torch.testing.assert_close(centred[..., :80].double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(centred[..., 80:], plain[..., 80:], rtol=0, atol=2e-6)


def test_normalisation_comes_last(speech: Tensor) -> None:
    config = FbankConfig(delta_order=2, cmvn=True)
    features = config.features(speech.unsqueeze(0), [9600])[0]
    assert features.shape == (58, 240)
    torch.testing.assert_close(features.mean(0), torch.zeros(240), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.std(0), torch.ones(240), rtol=0, atol=1e-5)


def test_cmvn_epsilon_is_read(speech: Tensor) -> None:
    waveforms = speech.unsqueeze(0)
    unit = FbankConfig(cmvn=True).features(waveforms, [9600])
    damped = FbankConfig(cmvn=True, cmvn_epsilon=1.0).features(waveforms, [9600])
    assert damped.abs().max() < 0.9 * unit.abs().max()


def test_delta_window_is_read(speech: Tensor) -> None:
    waveforms = speech.unsqueeze(0)
    narrow = FbankConfig(delta_order=1, delta_window=3).features(waveforms, [9600])
    wide = FbankConfig(delta_order=1, delta_window=9).features(waveforms, [9600])
    assert wide[..., 80:].std() < 0.9 * narrow[..., 80:].std()


def test_lengths_are_arithmetic() -> None:
    assert FbankConfig().min_samples == 400
    assert FbankConfig(cmvn=True).min_samples == 560
    config = FbankConfig(num_mels=40, frame_length_ms=20, frame_shift_ms=12.5, delta_order=2)
    assert (config.frame_samples, config.hop_samples, config.fft_samples) == (320, 200, 512)
    assert (config.min_samples, config.dim) == (320, 120)
    # torchaudio rounds down: 16000 * 10.1 * 0.001 is 161.6.
    assert FbankConfig(frame_shift_ms=10.1).hop_samples == 161
    assert FbankConfig().num_frames(24479) == 151
    assert FbankConfig().num_frames(torch.tensor([399, 400, 559, 560])).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be at least 1 Hz, but is 0"),
        ({"num_mels": 0}, "num_mels must be at least 1, but is 0"),
        ({"window": "kaiser"}, "window must be one of hamming, .*, but is 'kaiser'"),
        ({"frame_length_ms": 0.1}, "frame_length_ms must be at least two samples"),
        (
            {"frame_length_ms": 25.07, "round_to_power_of_two": False},
            "frame_length_ms must be an even number of samples, but is 25.07",
        ),
        ({"frame_shift_ms": 0.0}, "frame_shift_ms must be at least one sample"),
        ({"preemphasis": 1.1}, "preemphasis must be in"),
        ({"low_hz": -1.0}, "low_hz must be in"),
        ({"low_hz": 8000.0}, "low_hz must be in"),
        ({"high_hz": 8001.0}, "high_hz must be above low_hz and at most 8000.0"),
        ({"high_hz": 10.0}, "high_hz must be above low_hz"),
        ({"high_hz": -7990.0}, "high_hz must be above low_hz"),
        ({"delta_order": -1}, "delta_order must be at least 0"),
        ({"delta_window": 2}, "delta_window must be at least 3 frames"),
        ({"cmvn_epsilon": -1.0}, "cmvn_epsilon must be at least 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FbankConfig(**options)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="dither"):
        msgspec.json.decode(b'{"type": "fbank", "dither": 1.0}', type=FbankConfig)
