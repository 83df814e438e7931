from __future__ import annotations

from typing import Any

import pytest
import torch

from auricle.frontends import FbankConfig
from auricle.models.npc import Npc, NpcConfig
from auricle.nn.batch import Batch
from auricle.nn.quantizer import CodebookConfig
from auricle.objectives.base import Loss
from auricle.objectives.predictive_coding import NpcObjective, NpcObjectiveConfig

SMALL: dict[str, Any] = {
    "features": FbankConfig(num_mels=20, cmvn=True),
    "num_blocks": 2,
    "hidden_size": 32,
    "dropout": 0.0,
    "codebooks": (CodebookConfig(num_entries=16, dim=16),) * 2,
}


def objective(**options: Any) -> NpcObjective:
    torch.manual_seed(0)
    return NpcObjective(Npc(NpcConfig(**{**SMALL, **options})), NpcObjectiveConfig())


def loss(module: NpcObjective, wavs: list[torch.Tensor], seed: int = 0) -> Loss:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    result: Loss = module(padded, [len(wav) for wav in wavs], step=0, generator=generator)
    return result


def set_statistics(module: NpcObjective) -> None:
    """Running statistics that make evaluation different from the initial state."""
    for name, value in module.state_dict().items():
        if "running_mean" in name:
            value.normal_(std=0.2)
        elif "running_var" in name:
            value.uniform_(0.1, 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"codebooks": (), "bottleneck_dim": 6},
        {"codebooks": (), "cross_layer": False},
        {"batch_norm": False, "residual": False, "activation": "tanh"},
    ],
)
def test_in_evaluation_the_codes_predict_the_frame_itself(options: dict[str, Any]) -> None:
    module = objective(**options).eval()
    set_statistics(module)
    wav = 0.1 * torch.randn(6_000)
    features = module.encoder.features(Batch.of([wav])).values[0]
    if module.encoder.config.codebooks:
        codes = module.encoder.codes([wav])[0]
        tables = [codebook.vectors.weight.T for codebook in module.encoder.quantizer.codebooks]
        x = torch.cat([table[codes[:, k]] for k, table in enumerate(tables)], dim=1)
    else:
        x = module.encoder([wav])[0]
    expected = (module.head(x) - features).abs().mean()
    torch.testing.assert_close(loss(module, [wav]).value, expected)


def test_padding_never_enters_in_evaluation() -> None:
    # Without codes, which would hide small differences.
    module = objective(codebooks=()).eval()
    set_statistics(module)
    short, long = 0.1 * torch.randn(2_000), 0.1 * torch.randn(9_000)
    counts = [module.encoder.num_frames(len(wav)) for wav in (short, long)]
    alone = [loss(module, [wav]).value for wav in (short, long)]
    expected = (alone[0] * counts[0] + alone[1] * counts[1]) / sum(counts)
    torch.testing.assert_close(loss(module, [short, long]).value, expected)


def test_the_frame_that_is_predicted_is_not_seen() -> None:
    module = objective(codebooks=()).eval()
    features = torch.randn(1, 60, 20, requires_grad=True)
    predicted = module.head(module.context(Batch.padded(features, [60])))
    (gradient,) = torch.autograd.grad(predicted[0, 30].sum(), features)
    seen = gradient.abs().sum(dim=2)[0] > 0
    hidden = [frame for frame in range(60) if not seen[frame]]
    # Of the frames within reach of the kernels, the mask of five about the frame itself.
    assert [frame for frame in hidden if 21 <= frame <= 39] == [28, 29, 30, 31, 32]


def test_gradients_pass_through_the_choice() -> None:
    module = objective()
    loss(module, [0.1 * torch.randn(8_000), 0.1 * torch.randn(5_000)]).value.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        # Batch norm takes biases before it away.
        if not name.endswith(("conv.bias", "linear.bias")) or "masked" in name:
            assert parameter.grad.abs().sum() > 0, name


def test_metrics() -> None:
    metrics = loss(objective(), [0.1 * torch.randn(8_000)]).metrics
    assert metrics["temperature"] == 1.0
    assert 1 <= metrics["code_perplexity"] <= 16


@pytest.mark.parametrize("cmvn", [True, False])
def test_the_shortest_waveform_has_two_frames_for_batch_norm(cmvn: bool) -> None:
    module = objective(features=FbankConfig(num_mels=20, cmvn=cmvn))
    assert module.min_samples == 560
    value = loss(module, [0.1 * torch.randn(560)]).value
    value.backward()
    assert value.isfinite()
