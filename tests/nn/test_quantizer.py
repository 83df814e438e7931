from __future__ import annotations

import pytest
import torch

from auricle.nn.quantizer import CodebookConfig, LogitQuantizer, check_codebook_widths


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


def test_widths_must_cover_the_representation() -> None:
    check_codebook_widths([], 7)
    check_codebook_widths([CodebookConfig(num_entries=2, dim=7)], 7)
    with pytest.raises(ValueError, match="add up to 7, but add up to 6"):
        check_codebook_widths([CodebookConfig(num_entries=2, dim=3)] * 2, 7)
    with pytest.raises(ValueError, match="num_entries >= 1"):
        CodebookConfig(num_entries=0, dim=3)
