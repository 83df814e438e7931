from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.spectral_transformer import Tera

PRESETS = FAMILIES["tera"].presets()


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = Tera(PRESETS["tera_base"])
    assert model.info.num_parameters == pytest.approx(21.3e6, rel=0.01)
