from __future__ import annotations

import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.wav2vec import ConvEncoderConfig, Wav2Vec, Wav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig

PRESETS = FAMILIES["wav2vec"].presets()

EXTRACTOR = ConvExtractorConfig(layers=((4, 10, 5), (4, 4, 2)))
AGGREGATOR = AggregatorConfig(layers=((4, 2, 1), (6, 3, 1), (6, 2, 1)))


def encoder(config: ConvEncoderConfig | None = None) -> Wav2Vec:
    torch.manual_seed(0)
    config = config or Wav2VecConfig(extractor=EXTRACTOR, aggregator=AGGREGATOR)
    assert isinstance(config, Wav2VecConfig)
    return Wav2Vec(config).eval()


def test_layers_are_named_by_depth() -> None:
    layers = encoder().layer_infos
    assert [(info.name, info.dim) for info in layers] == [
        ("z", 4), ("agg_1", 4), ("agg_2", 6), ("context", 6)
    ]  # fmt: skip
    single = Wav2VecConfig(extractor=EXTRACTOR, aggregator=AggregatorConfig(layers=((4, 2, 1),)))
    assert encoder(single).info.layers == ("z", "context")


def test_aggregator_strides_thin_the_frames() -> None:
    aggregator = AggregatorConfig(layers=((4, 3, 2), (4, 2, 1)), residual_scale=None)
    model = encoder(Wav2VecConfig(extractor=EXTRACTOR, aggregator=aggregator))
    wav = torch.randn(203)
    frames = {name: model.num_frames(203, name) for name in model.info.layers}
    assert frames == {"z": 18, "agg_1": 9, "context": 9}
    with torch.no_grad():
        assert {name: len(model([wav], name)[0]) for name in frames} == frames


def test_the_shortest_waveform_gives_one_frame() -> None:
    model = encoder()
    assert model.min_samples == 25
    with torch.no_grad():
        assert model([torch.randn(25)])[0].shape == (1, 6)


def test_contexts_see_the_past_through_more_than_statistics() -> None:
    model = encoder()
    frames = torch.randn(1, 4, 30)
    changed = frames.clone()
    changed[:, :, 0] = frames[:, :, 0].flip(1)  # the same statistics, another first frame
    with torch.no_grad():
        (_, before), *_ = model.contexts(frames, [30])
        (_, after), *_ = model.contexts(changed, [30])
    assert not torch.allclose(before.values[:, :2], after.values[:, :2], atol=1e-3)
    assert model.info.receptive_field.sees_past
    assert not model.info.receptive_field.looks_ahead


def test_waveforms_are_normalised_where_the_task_says_so() -> None:
    normalize = Wav2VecConfig(normalize=True, extractor=EXTRACTOR, aggregator=AGGREGATOR)
    plain, normalising = encoder(), encoder(normalize)
    wav = 0.1 * torch.randn(500) + 0.3
    by_hand = (wav - wav.mean()) / (wav.var(correction=0) + 1e-5).sqrt()
    with torch.no_grad():
        (expected,) = plain([by_hand])
        (result,) = normalising([wav])
    assert torch.allclose(result, expected, atol=1e-4)


def test_frames_are_dropped_out_in_training() -> None:
    config = Wav2VecConfig(extractor=EXTRACTOR, aggregator=AGGREGATOR, frame_dropout=0.5)
    model = encoder(config).train()
    wav = torch.randn(500)
    assert torch.equal(model([wav], "z")[0], model([wav], "z")[0])
    assert not torch.equal(model([wav])[0], model([wav])[0])


def test_published_extractors_need_465_samples() -> None:
    assert PRESETS["wav2vec_large"].extractor.geometry.min_samples() == 465


def test_a_config_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Wav2VecConfig(extractor=ConvExtractorConfig(layers=()))
