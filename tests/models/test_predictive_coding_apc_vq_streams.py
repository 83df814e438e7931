from __future__ import annotations

import pytest
import torch

from auricle.errors import AuricleError
from auricle.models.predictive_coding import VqApc, VqApcConfig
from auricle.nn.quantizer import CodebookConfig
from streams import streamed

CODEBOOKS = (CodebookConfig(num_entries=7, dim=6), CodebookConfig(num_entries=5, dim=10))


def encoder(codebooks: tuple[CodebookConfig, ...] = CODEBOOKS) -> VqApc:
    torch.manual_seed(0)
    return VqApc(VqApcConfig(hidden_size=16, num_layers=2, codebooks=codebooks)).eval()


def test_codes_are_those_of_the_frames_that_come_out() -> None:
    model = encoder()
    wav = 0.1 * torch.randn(8_000)
    frames = streamed(model, wav, [500])
    codes = streamed(model, wav, [1_234], codes=True)
    assert codes.shape == (48, 2)
    assert torch.equal(codes, model.quantizer.indices(frames.unsqueeze(0))[0])


def test_without_codebooks_there_are_no_codes() -> None:
    model = encoder(())
    assert streamed(model, torch.randn(800)).shape == (3, 16)
    with pytest.raises(AuricleError, match="no quantiser"):
        model.stream(codes=True)
