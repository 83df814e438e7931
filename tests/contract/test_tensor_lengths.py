"""Padded batches whose lengths are a tensor give what each waveform gives alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils._python_dispatch import TorchDispatchMode

from auricle.models.base import Encoder, FeatureEncoder
from auricle.nn.batch import Batch
from golden_cases import deviation, each_architecture, golden_cases, shared_encoder

LIMIT = 1e-4
"""In standard deviations (docs/contract.md)."""

NAMES = each_architecture(sorted(case.name for case in golden_cases()))


class Reads(TorchDispatchMode):
    """Counts how often Python reads a number from a tensor, which a compiler cannot follow."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def wavs(encoder: Encoder) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    extra = (3_000, 0, 1_234)
    return [0.1 * torch.randn(encoder.min_samples + n, generator=generator) for n in extra]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_lone_waveforms(name: str) -> None:
    encoder = shared_encoder(name)
    waveforms = wavs(encoder)
    layer = encoder.default_layer
    with torch.no_grad():
        expected = encoder(waveforms)
        padded = pad_sequence(waveforms, batch_first=True)
        lengths = torch.tensor([len(wav) for wav in waveforms])
        with Reads() as reads:
            layers = encoder.encode(Batch.padded(padded, lengths), frozenset({layer}))
            output = next(output for one, output in layers if one == layer)
    assert not output.layout.is_packed
    for row, reference in zip(output.rows(), expected, strict=True):
        assert deviation(row, reference) <= LIMIT
    if not isinstance(encoder, FeatureEncoder):  # whose front ends take each utterance alone
        assert isinstance(output.lengths, Tensor)
        assert reads.count == 0
