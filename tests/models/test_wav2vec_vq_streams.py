from __future__ import annotations

import pytest
import torch

from auricle.models.wav2vec import VqWav2Vec, VqWav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.nn.quantizer import GumbelQuantizerConfig, KmeansQuantizerConfig
from golden_cases import BATCH_LIMIT, deviation
from streams import streamed

QUANTIZERS = [
    GumbelQuantizerConfig(num_groups=2, num_entries=9),
    GumbelQuantizerConfig(num_groups=2, num_entries=9, depth=2, is_shared=True),
    KmeansQuantizerConfig(num_groups=4, num_entries=9),
    KmeansQuantizerConfig(num_groups=1, num_entries=9, is_shared=True),
]


def encoder(quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig) -> VqWav2Vec:
    torch.manual_seed(0)
    config = VqWav2VecConfig(
        extractor=ConvExtractorConfig(layers=((8, 10, 5), (8, 4, 2)), activation="gelu"),
        aggregator=AggregatorConfig(layers=((6, 2, 1),)),
        quantizer=quantizer,
    )
    model = VqWav2Vec(config).requires_grad_(False)
    torch.nn.init.normal_(model.quantizer.vectors)
    return model.eval()


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_codes_vectors_and_contexts_by_statistics_of_the_whole(
    quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig,
) -> None:
    model = encoder(quantizer)
    wav = 0.1 * torch.randn(3_000)
    statistics = model.stream_statistics([wav])
    assert ("codes" in statistics.moments) == isinstance(quantizer, KmeansQuantizerConfig)
    codes = streamed(model, wav, [99], codes=True, normalisation=statistics)
    assert torch.equal(codes, model.codes([wav])[0])
    assert len(codes.unique()) > 2
    for layer in ("quantized", "context"):
        frames = streamed(model, wav, [1_000], layer=layer, normalisation=statistics)
        assert deviation(frames, model([wav], layer)[0]) <= BATCH_LIMIT


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_running_codes_do_not_depend_on_cuts(
    quantizer: GumbelQuantizerConfig | KmeansQuantizerConfig,
) -> None:
    model = encoder(quantizer)
    wav = 0.1 * torch.randn(2_000)
    at_once = streamed(model, wav, codes=True)
    assert torch.equal(streamed(model, wav, [1], codes=True), at_once)
    vectors = streamed(model, wav, [50], layer="quantized")
    groups = torch.arange(quantizer.num_groups)
    assert torch.equal(vectors, model.quantizer.tables()[groups, at_once].flatten(1))
