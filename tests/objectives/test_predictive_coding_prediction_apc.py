from __future__ import annotations

import torch

from auricle.models.predictive_coding import Apc, ApcConfig
from auricle.nn.batch import Batch
from auricle.objectives.predictive_coding import ApcObjective, ApcObjectiveConfig


def objective(num_future: int = 3) -> ApcObjective:
    torch.manual_seed(0)
    encoder = Apc(ApcConfig(hidden_size=8, num_layers=2, num_future=num_future, dropout=0.0))
    return ApcObjective(encoder, ApcObjectiveConfig())


def loss(module: ApcObjective, wavs: list[torch.Tensor]) -> torch.Tensor:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator()
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator).value


def test_it_is_the_mean_absolute_error_of_the_frames_ahead() -> None:
    module = objective()
    wav = 0.1 * torch.randn(4_000)
    features = module.encoder.features(Batch.of([wav])).values[0]
    predicted = module.head(module.encoder([wav])[0])
    expected = (predicted[:-3] - features[3:]).abs().mean()
    torch.testing.assert_close(loss(module, [wav]), expected)


def test_padding_never_enters() -> None:
    module = objective()
    short, long = 0.1 * torch.randn(2_000), 0.1 * torch.randn(9_000)
    counts = [module.encoder.num_frames(len(wav)) - 3 for wav in (short, long)]
    alone = [loss(module, [wav]) for wav in (short, long)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(loss(module, [short, long]), expected)


def test_the_frame_that_is_predicted_is_not_seen() -> None:
    module = objective(num_future=1)
    features = torch.randn(1, 10, 80, requires_grad=True)
    *_, context = module.encoder.rnn(features)
    (gradient,) = torch.autograd.grad(module.head(context)[0, 4].sum(), features)
    seen = gradient.abs().sum(dim=2)[0] > 0
    assert seen.tolist() == [True] * 5 + [False] * 5


def test_the_shortest_waveform_has_one_frame_to_predict() -> None:
    module = objective(num_future=5)
    wav = 0.1 * torch.randn(module.min_samples)
    assert loss(module, [wav]).isfinite()
    assert loss(module, [wav]) > 0
