from __future__ import annotations

import math

import pytest
import torch

from auricle.nn.quantizer import CodebookConfig, LogitQuantizer
from auricle.objectives.base import (
    LogitQuantizerObjectiveConfig,
    gumbel_noise,
    quantize,
    quantizer_metrics,
    straight_through_choice,
)


def test_noise_is_standard_gumbel_and_the_generators_alone() -> None:
    noise = gumbel_noise((200_000,), torch.Generator().manual_seed(1), "cpu")
    assert noise.isfinite().all()
    # Mean is Euler's constant, variance pi^2 / 6.
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.015)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.04)
    torch.manual_seed(99)
    again = gumbel_noise((200_000,), torch.Generator().manual_seed(1), "cpu")
    assert torch.equal(noise, again)


def test_noisy_choices_follow_the_softmax_of_the_logits() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    logits = probabilities.log().expand(20_000, 3)
    noise = gumbel_noise(logits.shape, torch.Generator().manual_seed(0), "cpu")
    choice = straight_through_choice(logits, temperature=0.3, noise=noise)
    torch.testing.assert_close(choice.mean(dim=0), probabilities, atol=0.015, rtol=0)


def test_choice_is_hard_and_its_gradient_soft() -> None:
    logits = torch.tensor([[0.1, 0.4, -0.2], [2.0, 1.0, 1.5]], requires_grad=True)
    noise = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, 0.1]])
    choice = straight_through_choice(logits, temperature=0.5, noise=noise)
    torch.testing.assert_close(choice, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    (gradient,) = torch.autograd.grad((choice * weights).sum(), logits)
    soft = ((logits + noise) / 0.5).softmax(dim=-1)
    (expected,) = torch.autograd.grad((soft * weights).sum(), logits)
    torch.testing.assert_close(gradient, expected)


def quantizer() -> LogitQuantizer:
    torch.manual_seed(0)
    return LogitQuantizer(
        (CodebookConfig(num_entries=5, dim=2), CodebookConfig(num_entries=3, dim=4))
    )


def test_quantize_without_noise_looks_up_the_codes() -> None:
    module, x = quantizer(), torch.randn(2, 7, 6)
    vectors, choices = quantize(module, x, temperature=1.0, generator=None)
    codes = module.indices(x)
    first, second = (codebook.vectors.weight.T for codebook in module.codebooks)
    expected = torch.cat([first[codes[..., 0]], second[codes[..., 1]]], dim=-1)
    torch.testing.assert_close(vectors, expected)
    for index, choice in enumerate(choices):
        assert torch.equal(choice.argmax(dim=-1), codes[..., index])


def test_quantize_with_noise_depends_on_the_generator_alone() -> None:
    module, x = quantizer(), torch.zeros(2, 50, 6)
    runs = [
        quantize(module, x, temperature=1.0, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (3, 3, 4)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_perplexity_is_over_valid_frames() -> None:
    rows = torch.eye(4)
    # Valid frames choose 0, 1, 0, 1: two entries in even use.
    choice = torch.stack([rows[[0, 1, 0]], rows[[1, 2, 3]]])
    metrics = quantizer_metrics([choice], [3, 1], 0.7)
    torch.testing.assert_close(metrics["code_perplexity"], torch.tensor(2.0))
    assert metrics["temperature"].item() == pytest.approx(0.7)
    constant = rows[[2, 2, 2]].expand(2, 3, 4)
    metrics = quantizer_metrics([choice, constant], [3, 1], 0.7)
    torch.testing.assert_close(metrics["code_perplexity"], torch.tensor(1.5))


def test_temperature_is_constant_or_decays_to_its_end() -> None:
    assert LogitQuantizerObjectiveConfig().temperature(1_000, 0.5) == 0.5
    config = LogitQuantizerObjectiveConfig(start_temperature=2.0, temperature_decay=0.9)
    assert config.temperature(0, 0.5) == 2.0
    assert config.temperature(3, 0.5) == pytest.approx(2.0 * 0.9**3)
    assert config.temperature(1_000, 0.5) == 0.5


@pytest.mark.parametrize(
    "options", [{"start_temperature": 0.0}, {"temperature_decay": 0.0}, {"temperature_decay": 1.1}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="temperature"):
        LogitQuantizerObjectiveConfig(**options)
