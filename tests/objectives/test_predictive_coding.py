from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.models.predictive_coding import Cpc, CpcConfig
from auricle.objectives.contrastive import draw_negatives
from auricle.objectives.predictive_coding import PRESETS, CpcObjective, CpcObjectiveConfig

HEADS = ["linear", "transformer"]
SMALL = {"num_steps": 3, "num_negatives": 5, "num_heads": 2, "ffn_dim": 16, "num_distances": 20}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers lose more to the handing over between threads than they gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def objective(
    *, norm: Any = "layer", encoder_dim: int = 8, context_dim: int = 6, **options: Any
) -> CpcObjective:
    torch.manual_seed(0)
    encoder = Cpc(CpcConfig(encoder_dim=encoder_dim, context_dim=context_dim, norm=norm))
    return CpcObjective(encoder, CpcObjectiveConfig(**{**SMALL, **options}))


def loss(module: CpcObjective, wavs: list[Tensor], seed: int = 0) -> Any:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("is_mean_score", [False, True])
@pytest.mark.parametrize("across_batch", [False, True])
def test_it_is_the_cross_entropy_among_negatives_in_any_batch(
    head: str, is_mean_score: bool, across_batch: bool
) -> None:
    module = objective(head=head, is_mean_score=is_mean_score, across_batch=across_batch).eval()
    wavs = [torch.randn(count) for count in (1_500, 900, module.min_samples)]
    frames = module.encoder(wavs, "encoder")
    num_frames = [len(row) for row in frames]
    negatives = draw_negatives(
        num_frames, 5, across_batch=across_batch, generator=torch.Generator().manual_seed(0)
    )
    padded = torch.nn.utils.rnn.pad_sequence(frames)
    values, hits = [], []
    for row, context in enumerate(module.encoder(wavs)):
        predictions = [head(context[None])[0] for head in module.heads]
        for frame in range(num_frames[row] - 3):
            for step in (1, 2, 3):
                drawn = negatives[row, frame + step]
                others = [padded[i % max(num_frames), i // max(num_frames)] for i in drawn]
                candidates = torch.stack([frames[row][frame + step], *others])
                scores = candidates @ predictions[step - 1][frame]
                scores = scores / 8 if is_mean_score else scores
                values.append(-scores.log_softmax(dim=0)[0])
                hits.append(scores.argmax() == 0)
    assert len(values) == 3 * (sum(num_frames) - 9)
    result = loss(module, wavs)
    torch.testing.assert_close(result.value, torch.stack(values).mean())
    accuracy = torch.stack(hits).float().mean()
    torch.testing.assert_close(result.metrics["accuracy"], accuracy)


@pytest.mark.parametrize("head", HEADS)
def test_a_prediction_does_not_see_later_frames(head: str) -> None:
    module = objective(head=head).eval()
    frames = torch.randn(1, 10, 8, requires_grad=True)
    context, _ = module.encoder.rnn(frames)
    for prediction in module.predictions(context):
        (gradient,) = torch.autograd.grad(
            prediction[0, 4].square().sum(), frames, retain_graph=True
        )
        assert not gradient[0, 5:].any()
        assert gradient[0, :5].any(dim=1).all()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_more_padding_changes_nothing(norm: str) -> None:
    module = objective(norm=norm, head_dropout=0.0)
    wavs = [torch.randn(2_000), torch.randn(900)]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    values = []
    for extra in (0, 3_000):
        generator = torch.Generator().manual_seed(0)
        waveforms = torch.nn.functional.pad(padded, (0, extra))
        values.append(module(waveforms, [2_000, 900], step=0, generator=generator).value)
    torch.testing.assert_close(values[0], values[1])


def test_dropout_of_predictions() -> None:
    module = objective(head="linear", prediction_dropout=0.5)
    context = torch.randn(1, 50, 6)
    kept = module.predictions(context)[0] != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert module.eval().predictions(context)[0].all()


def test_the_shortest_waveform_has_one_context() -> None:
    module = objective(num_steps=12)
    assert module.encoder.num_frames(module.min_samples) == 13
    assert module.encoder.num_frames(module.min_samples - 1) == 12
    assert loss(module, [torch.randn(module.min_samples)]).value > 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_steps": 0}, "at least 1"),
        ({"num_negatives": 0}, "at least 1"),
        ({"num_heads": 3}, "multiple of num_heads"),
    ],
)
def test_options_that_do_not_hold_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        objective(**options)


def test_the_first_papers_options() -> None:
    assert (PRESETS["cpc"].head, PRESETS["cpc"].is_mean_score) == ("linear", False)
    assert PRESETS["modified_cpc"].head == "transformer"


@pytest.mark.parametrize("zeroed", [True, False])
def test_convolutions_start_without_bias_where_that_is_asked_for(zeroed: bool) -> None:
    torch.manual_seed(1)
    encoder = Cpc(CpcConfig(encoder_dim=16, context_dim=16))
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    CpcObjective(encoder, CpcObjectiveConfig(head="linear", zero_conv_biases=zeroed))
    for name, value in encoder.named_parameters():
        if zeroed and name.endswith("conv.bias"):
            assert not value.any()
        else:
            assert torch.equal(value, before[name])
    assert any(name.endswith("conv.bias") for name in before)
