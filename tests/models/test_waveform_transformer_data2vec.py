from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.waveform_transformer import Data2Vec

PRESETS = FAMILIES["data2vec"].presets()


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_add_up(name: str) -> None:
    with torch.device("meta"):
        model = Data2Vec(PRESETS[name])
    transformer = model.config.transformer
    width, ffn = transformer.hidden_size, transformer.ffn_size
    convolutions = 512 * (10 + 4 * 512 * 3 + 2 * 512 * 2) + 7 * 2 * 512
    projection = 2 * 512 + 512 * width + width
    positions = 5 * (width * width // 16 * 19 + width)
    layer = 4 * (width + 1) * width + (width + 1) * ffn + (ffn + 1) * width + 4 * width
    expected = convolutions + projection + positions + 2 * width + transformer.num_layers * layer
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_positions_come_from_a_stack_of_convolutions() -> None:
    for config in PRESETS.values():
        positions = config.transformer.positions
        assert (positions.kind, positions.depth, positions.kernel_size) == ("stack", 5, 19)
        assert (config.normalize, config.extractor.norm) == (True, "layer")
        assert not config.transformer.pre_layer_norm
