from __future__ import annotations

import torch

from auricle.frontends import FbankConfig, LogMelConfig
from auricle.models.spectral_transformer import BertConfig, Tera, TeraConfig

TRANSFORMER = BertConfig(hidden_size=8, num_layers=2, num_heads=2, ffn_size=8)


def tera(features: FbankConfig | LogMelConfig) -> Tera:
    torch.manual_seed(0)
    return Tera(TeraConfig(features=features, transformer=TRANSFORMER)).eval()


def test_frames_are_the_front_end_s() -> None:
    wav = 0.1 * torch.randn(8_000)
    for features in (FbankConfig(num_mels=40, delta_order=2), LogMelConfig(kind="linear")):
        model = tera(features)
        assert model.bert.project.in_features == features.dim
        assert len(model([wav])[0]) == features.num_frames(8_000)


def test_every_frame_attends_to_the_whole_utterance() -> None:
    model = tera(FbankConfig(num_mels=40))
    wav = 0.1 * torch.randn(8_000)
    changed = torch.cat([wav[:7_000], torch.zeros(1_000)])
    assert model.info.receptive_field.looks_ahead
    assert not torch.allclose(model([wav])[0][0], model([changed])[0][0], atol=1e-4)


def test_layers_are_counted_from_the_input() -> None:
    assert tera(LogMelConfig()).info.layers == ("input", "layer_1", "layer_2")
