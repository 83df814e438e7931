from __future__ import annotations

import torch

import auricle
from streams import streamed


def test_kaldis_filterbank_streams() -> None:
    encoder = auricle.load("fbank")
    wav = 0.1 * torch.randn(4_000)
    torch.testing.assert_close(streamed(encoder, wav, [77]), encoder([wav])[0], atol=2e-6, rtol=0)
