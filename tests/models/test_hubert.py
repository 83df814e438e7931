from __future__ import annotations

import pytest
import torch

from auricle.models.hubert import PRESETS, Hubert

PUBLISHED_MILLIONS = {"hubert_base": 95, "hubert_large": 317, "hubert_xlarge": 964}
"""Table 1 of arXiv:2106.07447."""


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = Hubert(PRESETS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(PUBLISHED_MILLIONS[name] * 1e6, rel=0.01)
    assert model.config.normalize is (name != "hubert_base")
