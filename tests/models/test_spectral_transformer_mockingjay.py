from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.spectral_transformer import Mockingjay

PRESETS = FAMILIES["mockingjay"].presets()


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = Mockingjay(PRESETS["mockingjay_base"])
    assert model.info.num_parameters == pytest.approx(21.3e6, rel=0.01)


def test_the_large_one_reads_deltas_through_twelve_layers() -> None:
    config = PRESETS["mockingjay_large"]
    assert (config.features.dim, config.transformer.num_layers) == (160, 12)
