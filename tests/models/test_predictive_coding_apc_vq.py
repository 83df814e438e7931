from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.errors import AuricleError
from auricle.models.predictive_coding import VqApc, VqApcConfig
from auricle.nn.quantizer import CodebookConfig

PRESETS = FAMILIES["vq_apc"].presets()

TWO = (CodebookConfig(num_entries=5, dim=3), CodebookConfig(num_entries=7, dim=5))


def test_each_codebook_gives_a_column_of_codes() -> None:
    torch.manual_seed(0)
    model = VqApc(VqApcConfig(num_layers=2, hidden_size=8, codebooks=TWO)).eval()
    wav = 0.1 * torch.randn(8_000)
    (codes,) = model.codes([wav])
    hidden = model([wav])[0]
    first, second = model.quantizer.codebooks
    assert codes[:, 0].tolist() == first.logits(hidden[:, :3]).argmax(dim=1).tolist()
    assert codes[:, 1].tolist() == second.logits(hidden[:, 3:]).argmax(dim=1).tolist()


def test_without_a_quantiser_there_are_no_codes() -> None:
    model = VqApc(VqApcConfig(hidden_size=8, codebooks=()))
    with pytest.raises(AuricleError, match="has no quantiser"):
        model.codes([torch.zeros(8_000)])


def test_codebooks_must_cover_the_layer() -> None:
    with pytest.raises(ValueError, match="add up to 9, but add up to 8"):
        VqApcConfig(hidden_size=9, codebooks=TWO)


def test_the_published_size_has_one_codebook_of_512() -> None:
    assert PRESETS["vq_apc"].codebooks == (CodebookConfig(num_entries=512, dim=512),)
