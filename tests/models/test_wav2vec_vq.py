from __future__ import annotations

import msgspec
import pytest
import torch

from auricle.catalogue.family import FAMILIES
from auricle.models.wav2vec import VqWav2Vec, VqWav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.nn.quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig

PRESETS = FAMILIES["vq_wav2vec"].presets()

EXTRACTOR = ConvExtractorConfig(layers=((4, 10, 5), (6, 4, 2)))
AGGREGATOR = AggregatorConfig(layers=((5, 2, 1), (5, 3, 1)))
GUMBEL = GumbelQuantizerConfig(num_groups=3, num_entries=4, depth=2)
KMEANS = KmeansQuantizerConfig(num_groups=3, num_entries=4)


@pytest.mark.parametrize("quantizer", [GUMBEL, KMEANS])
def test_contexts_read_the_code_vectors_alone(
    quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig,
) -> None:
    torch.manual_seed(0)
    config = VqWav2VecConfig(extractor=EXTRACTOR, aggregator=AGGREGATOR, quantizer=quantizer)
    model = VqWav2Vec(config).eval()
    assert model.info.layers == ("z", "quantized", "agg_1", "context")
    wavs = [torch.randn(700), torch.randn(300)]
    with torch.no_grad():
        vectors = model(wavs, "quantized")
        contexts = model(wavs)
        codes = model.codes(wavs)
        for vector, context, code in zip(vectors, contexts, codes, strict=True):
            *_, (_, expected) = model.contexts(vector.T[None], [len(vector)])
            assert torch.allclose(context, expected.values[0], atol=1e-5)
            assert code.shape == (len(vector), 3)
            same_codes = code[:, None].eq(code).all(dim=2)
            same_vectors = vector[:, None].eq(vector).all(dim=2)
            assert torch.equal(same_codes, same_vectors)


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_the_way_through_a_file(name: str) -> None:
    written = msgspec.json.encode(PRESETS[name])
    assert msgspec.json.decode(written, type=VqWav2VecConfig) == PRESETS[name]


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="6 columns cannot be divided evenly among 4"):
        VqWav2VecConfig(extractor=EXTRACTOR, quantizer=KmeansQuantizerConfig(num_groups=4))
