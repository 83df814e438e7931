from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.waveform_transformer import WavLm, WavLmConfig
from auricle.nn.transformer import TransformerConfig

PRESETS = FAMILIES["wavlm"].presets()

PUBLISHED_MILLIONS = {"wavlm_base": 94.70, "wavlm_base_plus": 94.70, "wavlm_large": 316.62}
"""Table I of arXiv:2110.13900."""


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = WavLm(PRESETS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(PUBLISHED_MILLIONS[name] * 1e6, rel=0.01)
    assert model.transformer.relative_bias.table.num_embeddings == 320


def test_a_network_without_relative_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="must have relative_positions"):
        WavLmConfig(transformer=TransformerConfig())
