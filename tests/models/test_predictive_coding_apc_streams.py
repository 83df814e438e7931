from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.frontends import FbankConfig
from auricle.models.predictive_coding import Apc, ApcConfig
from golden_cases import BATCH_LIMIT, deviation
from streams import streamed


def encoder(**options: Any) -> Apc:
    torch.manual_seed(0)
    return Apc(ApcConfig(**{"hidden_size": 16, "num_layers": 3, **options})).eval()


def wav(num_samples: int = 6_000) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cuts", [[], [160], [37, 1_500]])
def test_without_cmvn_a_stream_is_exact(residual: bool, cuts: list[int]) -> None:
    model = encoder(residual=residual, features=FbankConfig())
    for layer in model.info.layers:
        with torch.inference_mode():
            (expected,) = model([wav()], layer)
        assert deviation(streamed(model, wav(), cuts, layer=layer), expected) <= BATCH_LIMIT


def test_with_cmvn_the_layers_read_running_features() -> None:
    model = encoder()
    features = list(model.stream("rnn_1")._stages)[:1]
    with torch.inference_mode():
        x = features[0](wav().view(1, 1, -1), is_last=True)
        expected = [output[0] for output in model.rnn(x.transpose(1, 2))]
    for layer, output in enumerate(expected):
        assert deviation(streamed(model, wav(), [333], layer=layer), output) <= BATCH_LIMIT


def test_steps_are_the_front_end_and_the_layers() -> None:
    model = encoder()
    (features, *layers) = model.stream_steps()
    assert features.norm is not None
    assert [step.name for step in layers] == list(model.info.layers)
    assert all(step.norm is None for step in layers)
