"""What X-ARES asks for; `make judges` runs X-ARES itself, which is too heavy for these tests."""

from __future__ import annotations

import pytest
import torch

import auricle
from auricle.adapters import xares
from auricle.errors import AudioError


class TeraMiniEncoder(xares.XaresEncoder):
    model = "tera_mini"
    layer = "layer_1"


def test_padded_waveforms_give_padded_frames_of_the_layer() -> None:
    encoder = TeraMiniEncoder()
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16_000, 192, 10)
    audio = 0.1 * torch.randn(2, 4_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = encoder(audio)
        (expected,) = auricle.load("tera_mini")([audio[1]], "layer_1")
    torch.testing.assert_close(found[1], expected, rtol=0, atol=1e-5)
    assert encoder(audio[:, :10]).shape == (
        2,
        encoder.encoder.num_frames(encoder.encoder.min_samples),
        192,
    )
    for wrong in (audio[0], audio[:0]):
        with pytest.raises(AudioError, match=r"audio must be \(B, S\)"):
            encoder(wrong)


def test_its_module_has_one_class_that_can_be_found() -> None:
    assert [name for name in dir(xares) if name.endswith("Encoder")] == ["XaresEncoder"]
    assert xares.XaresEncoder().output_dim == auricle.load(xares.XaresEncoder.model).dim


def test_the_package_itself_accepts_it() -> None:
    checker = pytest.importorskip("xares.audio_encoder_checker", reason="X-ARES is not installed")
    assert checker.check_audio_encoder(TeraMiniEncoder())
