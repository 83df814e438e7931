from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.wav2vec import Wav2Vec

PRESETS = FAMILIES["wav2vec"].presets()


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = Wav2Vec(PRESETS["wav2vec_large"])
    prediction = 512 * 512 * 12 + 512
    assert model.info.num_parameters + prediction == pytest.approx(32.5e6, rel=0.005)
    assert model.info.hop_samples == 160
    assert model.info.layers == ("z", *(f"agg_{index}" for index in range(1, 12)), "context")
