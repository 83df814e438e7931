"""Training without dropout: gradients are those of lone waveforms, and no batch changes outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.nn.cpu.policy import reference_kernels
from golden_cases import (
    deviation,
    each_architecture,
    golden_cases,
    shared_encoder,
    without_dropout,
)

LIMIT = 1e-4
"""In standard deviations of a representation; of the root mean square of a parameter's gradient."""

ROUNDING = 2e-6
"""Error of small gradients, in standard deviations of the largest ones: those of key biases are
zero but for rounding."""

NAMES = each_architecture(sorted({case.family: case.name for case in golden_cases()}.values()))


def trained(encoder: Encoder, waveforms: Sequence[Tensor]) -> list[Tensor]:
    """Outputs in train mode, after a backward pass from a loss that weights them at random."""
    generator = torch.Generator().manual_seed(1)
    outputs = encoder(waveforms)
    losses = [(x * torch.randn(x.shape, generator=generator)).sum() for x in outputs]
    sum(losses, torch.zeros(())).backward()
    return [x.detach() for x in outputs]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_lone_waveforms(name: str) -> None:
    encoder = without_dropout(shared_encoder(name)).train()
    for part in encoder.modules():  # whose statistics in training are the batch's
        if isinstance(part, nn.BatchNorm1d):
            part.eval()
    reference = copy.deepcopy(encoder).double()
    noise = torch.Generator().manual_seed(0)
    sizes = [encoder.min_samples + extra for extra in (4_000, 0, 1_234)]
    waveforms = [0.1 * torch.randn(size, generator=noise) for size in sizes]

    outputs = trained(encoder, waveforms)
    generator = torch.Generator().manual_seed(1)
    with reference_kernels():
        for waveform, ours in zip(waveforms, outputs, strict=True):
            (alone,) = reference([waveform])
            assert deviation(ours, alone.detach()) <= LIMIT
            (alone * torch.randn(alone.shape, generator=generator)).sum().backward()

    pairs = zip(encoder.named_parameters(), reference.parameters(), strict=True)
    gradients = {key: (one.grad, other.grad) for (key, one), other in pairs}
    largest = max(
        float(theirs.std(False)) for _, theirs in gradients.values() if theirs is not None
    )
    for key, (ours, theirs) in gradients.items():
        assert (ours is None) == (theirs is None), key
        if ours is None or theirs is None:
            continue
        own = LIMIT * float(theirs.square().mean().sqrt())
        assert float((ours - theirs).abs().max()) <= max(own, ROUNDING * largest), key


@pytest.mark.parametrize("name", ["wav2vec2_base", "tera_fbank"])
def test_layers_that_are_computed_again_give_the_same_gradients(name: str) -> None:
    waveforms = [torch.randn(4_000), torch.randn(3_000)]
    results, kept = [], []
    for is_on in (False, True):
        encoder = copy.deepcopy(shared_encoder(name)).train()
        encoder.checkpoint_layers(is_on)
        sizes: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        )
        torch.manual_seed(0)  # of dropout, and of layers that are left out
        with hooks:
            loss = sum(x.square().mean() for x in encoder(waveforms))
        loss.backward()
        results.append([one.grad for one in encoder.parameters()])
        kept.append(sum(sizes))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True) if pair[0] is not None)
    assert kept[1] < kept[0]


def test_an_encoder_without_layers_says_so() -> None:
    with pytest.raises(AuricleError, match="apc has no Transformer layers"):
        copy.deepcopy(shared_encoder("apc")).checkpoint_layers()
