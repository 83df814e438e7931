from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.errors import AuricleError
from auricle.models.predictive_coding import Cpc, CpcConfig
from golden_cases import BATCH_LIMIT, deviation
from streams import CUT_LIMIT, streamed


def encoder(**options: Any) -> Cpc:
    torch.manual_seed(0)
    small = {"encoder_dim": 8, "context_dim": 6, "num_recurrent_layers": 2}
    model = Cpc(CpcConfig(**{**small, **options}))
    for name, value in model.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2.0)
        elif value.is_floating_point():
            value.normal_(std=0.3)
    return model.eval()


def noise(num_samples: int) -> Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples))


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("recurrence", ["lstm", "gru", "rnn"])
def test_streams_are_exact(norm: Any, recurrence: Any) -> None:
    model = encoder(norm=norm, recurrence=recurrence)
    for num_samples in (159, 160, 320, 777, 4_001):
        wav = noise(num_samples)
        for layer in ("encoder", "context"):
            with torch.inference_mode():
                (expected,) = model([wav], layer)
            for cuts in ([], [1, 90], [160]):
                frames = streamed(model, wav, cuts, layer=layer)
                assert deviation(frames, expected) <= BATCH_LIMIT


def test_no_frame_is_made_of_padding_alone() -> None:
    model = encoder()
    assert len(streamed(model, noise(158))) == 0
    assert len(streamed(model, noise(159))) == 1


def test_instance_norm_needs_statistics() -> None:
    model = encoder(norm="instance")
    wav = noise(4_000) + 0.5
    # A steady tone, which leaves channels constant but for rounding and the two ends.
    wav[:3_950] = torch.sin(torch.arange(3_950) * 2 * torch.pi / 5)
    with pytest.raises(AuricleError, match=r"over the whole utterance.*stream_statistics\(wavs\)"):
        model.stream()
    statistics = model.stream_statistics([wav])
    assert len(statistics.moments) == 5
    for layer in ("encoder", "context"):
        with torch.inference_mode():
            (expected,) = model([wav], layer)
        at_once = streamed(model, wav, layer=layer, normalisation=statistics)
        assert deviation(at_once, expected) <= BATCH_LIMIT
        cut = streamed(model, wav, [160, 1], layer=layer, normalisation=statistics)
        assert deviation(cut, at_once) <= CUT_LIMIT
