from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.nn.cpu import policy
from auricle.nn.quantizer import (
    CodebookConfig,
    LogitCodebook,
    LogitQuantizer,
    check_codebook_widths,
)


def test_each_codebook_reads_its_own_columns() -> None:
    configs = [CodebookConfig(num_entries=3, dim=2), CodebookConfig(num_entries=2, dim=1)]
    quantizer = LogitQuantizer(configs)
    with torch.no_grad():
        first, second = quantizer.codebooks
        first.logits.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        first.logits.bias.zero_()
        second.logits.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        second.logits.bias.copy_(torch.tensor([0.0, 0.5]))
    x = torch.tensor([[[2.0, 1.0, 1.0], [1.0, 2.0, 0.2], [-3.0, -3.0, -1.0]]])
    assert quantizer.indices(x).tolist() == [[[0, 0], [1, 1], [2, 1]]]


def test_long_sequences_by_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    configs = [CodebookConfig(num_entries=9, dim=2), CodebookConfig(num_entries=4, dim=1)]
    quantizer = LogitQuantizer(configs)
    lengths: list[int] = []
    forward = LogitCodebook.forward

    def record(self: LogitCodebook, x: Tensor) -> Tensor:
        lengths.append(x.shape[1])
        return forward(self, x)

    # A hook on it would see the whole.
    monkeypatch.setattr(LogitCodebook, "forward", record)
    x = torch.randn(2, 30, 3)
    whole = quantizer.indices(x)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 2 * 9 * 4 * 7)
    with torch.inference_mode():
        assert torch.equal(quantizer.indices(x), whole)
    assert lengths[::2] == [30, 7, 7, 7, 7, 2]


def test_widths_must_cover_the_representation() -> None:
    check_codebook_widths([], 7)
    check_codebook_widths([CodebookConfig(num_entries=2, dim=7)], 7)
    with pytest.raises(ValueError, match="add up to 7, but add up to 6"):
        check_codebook_widths([CodebookConfig(num_entries=2, dim=3)] * 2, 7)
    with pytest.raises(ValueError, match="num_entries >= 1"):
        CodebookConfig(num_entries=0, dim=3)
