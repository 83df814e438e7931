from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.frontends import FbankConfig
from auricle.models.predictive_coding import VqApc, VqApcConfig
from auricle.nn.batch import Batch
from auricle.nn.quantizer import CodebookConfig
from auricle.objectives.base import Loss
from auricle.objectives.predictive_coding import VqApcObjective, VqApcObjectiveConfig

CODEBOOKS = (CodebookConfig(num_entries=6, dim=8), CodebookConfig(num_entries=16, dim=24))


def objective(
    num_future: int = 3, codebooks: tuple[CodebookConfig, ...] = CODEBOOKS, **options: Any
) -> VqApcObjective:
    torch.manual_seed(0)
    config = VqApcConfig(
        features=FbankConfig(num_mels=20, cmvn=True),
        hidden_size=32,
        num_layers=2,
        num_future=num_future,
        dropout=0.0,
        codebooks=codebooks,
    )
    return VqApcObjective(VqApc(config), VqApcObjectiveConfig(**options))


def loss(module: VqApcObjective, wavs: list[torch.Tensor], seed: int = 0, step: int = 0) -> Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    result: Loss = module(padded, [len(wav) for wav in wavs], step=step, generator=generator)
    return result


def test_in_evaluation_the_codes_predict_the_frames_ahead() -> None:
    module = objective().eval()
    wav = 0.1 * torch.randn(4_000)
    features = module.encoder.features(Batch.of([wav])).values[0]
    codes = module.encoder.codes([wav])[0]
    tables = [codebook.vectors.weight.T for codebook in module.encoder.quantizer.codebooks]
    vectors = torch.cat([table[codes[:, k]] for k, table in enumerate(tables)], dim=1)
    expected = (module.head(vectors)[:-3] - features[3:]).abs().mean()
    torch.testing.assert_close(loss(module, [wav]).value, expected)


def test_without_codebooks_it_is_the_loss_of_apc() -> None:
    module = objective(codebooks=())
    wav = 0.1 * torch.randn(4_000)
    features = module.encoder.features(Batch.of([wav])).values[0]
    predicted = module.head(module.encoder([wav])[0])
    result = loss(module, [wav])
    torch.testing.assert_close(result.value, (predicted[:-3] - features[3:]).abs().mean())
    assert not result.metrics


def test_padding_never_enters() -> None:
    module = objective().eval()
    short, long = 0.1 * torch.randn(2_000), 0.1 * torch.randn(9_000)
    counts = [module.encoder.num_frames(len(wav)) - 3 for wav in (short, long)]
    alone = [loss(module, [wav]).value for wav in (short, long)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(loss(module, [short, long]).value, expected)


def test_gradients_pass_through_the_choice() -> None:
    module = objective()
    loss(module, [0.1 * torch.randn(8_000)]).value.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_temperature_anneals() -> None:
    wav = 0.1 * torch.randn(4_000)
    assert loss(objective(), [wav], step=9).metrics["temperature"] == 0.5
    module = objective(start_temperature=2.0, temperature_decay=0.5)
    seen = [loss(module, [wav], step=step).metrics["temperature"].item() for step in range(4)]
    assert seen == [2.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(("num_future", "min_samples"), [(5, 400 + 5 * 160), (1, 560)])
def test_the_shortest_waveform_has_one_frame_to_predict(num_future: int, min_samples: int) -> None:
    module = objective(num_future=num_future)
    assert module.min_samples == min_samples
    value = loss(module, [0.1 * torch.randn(min_samples)]).value
    assert value.isfinite()
    assert value > 0
