from __future__ import annotations

import pytest
import torch

from auricle.checkpoints.audio_albert import convert
from auricle.errors import CheckpointError
from auricle.models.audio_albert import AudioAlbertConfig

TRANSFORMER = {
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "share_layer": True,
}
SECTIONS = {"transformer": TRANSFORMER, "audio": {"input": {"feat_type": "mel", "log": True}}}


@pytest.mark.parametrize("section", ["Config", "Upstream_Config"])
def test_both_formats_give_the_family_s_config(section: str) -> None:
    weights = {"encoder.layer.0.output.LayerNorm.weight": torch.ones(8)}
    converted = convert({section: SECTIONS, "Transformer": weights})
    assert isinstance(converted.config, AudioAlbertConfig)
    assert converted.config.transformer.num_layers == 4
    assert converted.config.transformer.share_layer is True
    ours = "bert.layers.0.ffn_norm.weight"
    assert list(converted.keymap.locate(converted.weights, {ours: torch.ones(8)}).weights) == [ours]


def test_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        convert({"Config": {**SECTIONS, "transformer": {}}, "Transformer": {}})
