from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.waveform_transformer import Hubert

PRESETS = FAMILIES["hubert"].presets()

PUBLISHED_MILLIONS = {"hubert_base": 94.7, "hubert_large": 316.6, "hubert_xlarge": 964}
"""With the projection onto 504 (Base) or 500 units and their embeddings (arXiv:2106.07447)."""


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = Hubert(PRESETS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    width = model.config.transformer.hidden_size
    unit_dim = {768: 256, 1024: 768, 1280: 1024}[width]
    count += width * unit_dim + unit_dim + 504 * unit_dim + width
    assert count == pytest.approx(PUBLISHED_MILLIONS[name] * 1e6, rel=0.001)
    assert model.config.normalize is (name != "hubert_base")
