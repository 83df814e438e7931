from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.models.wav2vec import LARGE_EXTRACTOR_LAYERS, Wav2Vec, Wav2VecConfig
from auricle.nn.batch import Batch
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.objectives.contrastive import (
    Wav2VecObjective,
    Wav2VecObjectiveConfig,
    initialise_predictions,
)

EXTRACTOR = ConvExtractorConfig(layers=((6, 10, 5), (6, 8, 4)))
"""A window of 45 samples, a hop of 20: frames 3 apart share no sample."""
AGGREGATOR = AggregatorConfig(layers=((7, 2, 1), (7, 3, 1)))


def objective(aggregator: AggregatorConfig = AGGREGATOR, **options: Any) -> Wav2VecObjective:
    torch.manual_seed(0)
    encoder = Wav2Vec(Wav2VecConfig(extractor=EXTRACTOR, aggregator=aggregator))
    return Wav2VecObjective(encoder, Wav2VecObjectiveConfig(**{"num_steps": 4, **options}))


def loss(module: Wav2VecObjective, wavs: list[Tensor], seed: int = 0) -> Any:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator)


class WithoutStatistics(torch.nn.Module):
    def forward(self, x: Tensor, num_frames: list[int]) -> Tensor:
        return x


def test_a_context_shares_no_sample_with_what_it_predicts() -> None:
    module = objective()
    assert module.first_step == 3
    assert objective(first_step=1).first_step == 1
    # Statistics over the utterance reach everywhere; all else must not.
    for layer in (*module.encoder.extractor.layers, *module.encoder.aggregator.layers):
        layer.norm = WithoutStatistics()
    wav = torch.randn(1, 400, requires_grad=True)
    z, num_frames = module.encoder.frames(Batch.padded(wav, [400]))
    *_, (_, context) = module.encoder.contexts(z, num_frames)
    (seen,) = torch.autograd.grad(module.predictions(context.values)[0][0, 7].sum(), wav)
    z, _ = module.encoder.frames(Batch.padded(wav, [400]))
    (target,) = torch.autograd.grad(z[0, :, 7 + 3].sum(), wav)
    assert seen.any()
    assert target.any()
    assert not (seen.bool() & target.bool()).any()


def test_the_published_sizes_start_three_frames_ahead() -> None:
    geometry = ConvExtractorConfig(layers=LARGE_EXTRACTOR_LAYERS).geometry
    assert -(-geometry.window_samples // geometry.hop_samples) == 3


@pytest.mark.parametrize("form", ["binary", "info_nce"])
def test_padding_never_enters(form: str) -> None:
    # Without a choice of negatives they are the same in any batch.
    module = objective(first_step=1, num_negatives=1, loss=form)
    minimum = module.min_samples
    wavs = [torch.randn(minimum), torch.randn(minimum + 15)]
    assert [module.encoder.num_frames(len(wav)) for wav in wavs] == [2, 2]
    alone = [loss(module, [wav]).value for wav in wavs]
    together = loss(module, wavs).value
    torch.testing.assert_close(together, (alone[0] + alone[1]) / 2)
    # Utterances of more frames: what lies past the ends does not matter.
    wavs = [torch.randn(300), torch.randn(500)]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    values = []
    for extra, noise in ((0, 0.0), (300, 1.0)):
        padded = torch.nn.functional.pad(padded, (0, extra))
        padded[0, 300:] = noise * torch.randn(200 + extra)
        generator = torch.Generator().manual_seed(0)
        values.append(module(padded, [300, 500], step=0, generator=generator).value)
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize(("is_balanced", "weight"), [(False, 1.0), (True, 1 / 6)])
def test_each_prediction_of_a_valid_frame_counts_once(is_balanced: bool, weight: float) -> None:
    # Predictions of 0 score 0 everywhere.
    module = objective(num_negatives=4, num_batch_negatives=2, is_balanced=is_balanced)
    torch.nn.init.zeros_(module.predict.weight)
    torch.nn.init.zeros_(module.predict.bias)
    result = loss(module, [torch.randn(700), torch.randn(300)])
    expected = torch.tensor(2.0).log() * (1 + 6 * weight)
    torch.testing.assert_close(result.value, expected)
    module = objective(num_negatives=4, num_batch_negatives=2, loss="info_nce")
    torch.nn.init.zeros_(module.predict.weight)
    torch.nn.init.zeros_(module.predict.bias)
    result = loss(module, [torch.randn(700), torch.randn(300)])
    torch.testing.assert_close(result.value, torch.tensor(7.0).log())


def test_dropouts_act_in_training_alone() -> None:
    context = torch.randn(1, 100, 7)
    module = objective(prediction_dropout=0.5)
    assert 0.3 < (module.predictions(context)[0] != 0).float().mean() < 0.7
    assert module.eval().predictions(context)[0].all()
    module = objective(context_dropout=0.5)
    assert not torch.equal(module.predictions(context)[0], module.predictions(context)[0])
    module.eval()
    assert torch.equal(module.predictions(context)[0], module.predictions(context)[0])


def test_the_shortest_waveform_has_one_frame_to_predict() -> None:
    module = objective()
    assert module.encoder.num_frames(module.min_samples) == 4
    assert module.encoder.num_frames(module.min_samples - 1) == 3
    assert loss(module, [torch.randn(module.min_samples)]).value > 0
    assert loss(module, [torch.randn(module.min_samples), torch.randn(700)]).value.isfinite()


def test_first_weights_are_fairseqs() -> None:
    layer = torch.nn.Linear(50, 400)
    initialise_predictions(layer)
    # Of a transposed convolution (50, 100, 1, 4), torch takes 100 * 4 for the fan.
    expected = torch.nn.ConvTranspose2d(50, 100, (1, 4)).weight
    assert layer.weight.abs().max() <= 0.05
    assert layer.weight.std().item() == pytest.approx(expected.std().item(), rel=0.05)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_steps": 0}, "at least 1"),
        ({"first_step": 0}, "at least 1"),
        ({"num_negatives": 0}, "not both 0"),
        ({"num_batch_negatives": -1}, "at least 0"),
        (
            {"aggregator": AggregatorConfig(layers=((7, 2, 2),), residual_scale=None)},
            "must have stride 1",
        ),
    ],
)
def test_options_that_do_not_hold_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        objective(**options)
