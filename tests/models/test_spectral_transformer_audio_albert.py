from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.spectral_transformer import AudioAlbert, AudioAlbertConfig, BertConfig

PRESETS = FAMILIES["audio_albert"].presets()


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = AudioAlbert(PRESETS["audio_albert_3"])
    assert model.info.num_parameters == pytest.approx(7.1e6, rel=0.01)


def test_depth_costs_no_weights() -> None:
    with torch.device("meta"):
        counts = {AudioAlbert(config).info.num_parameters for config in PRESETS.values()}
    assert len(counts) == 1


def test_a_network_without_shared_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="must have transformer.share_layer"):
        AudioAlbertConfig(transformer=BertConfig())
