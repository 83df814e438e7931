from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from auricle.models.wav2vec import Wav2Vec, Wav2VecConfig
from auricle.nn.conv_features import AggregatorConfig, ConvExtractorConfig
from auricle.objectives.contrastive import Wav2VecObjective, Wav2VecObjectiveConfig, draw_negatives

EXTRACTOR = ConvExtractorConfig(layers=((16, 10, 5), (16, 8, 4), *((16, 4, 2),) * 3))
AGGREGATOR = AggregatorConfig(layers=((16, 2, 1), (12, 3, 1)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers lose more to the handing over between threads than they gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def objective(**options: Any) -> Wav2VecObjective:
    torch.manual_seed(0)
    encoder = Wav2Vec(Wav2VecConfig(extractor=EXTRACTOR, aggregator=AGGREGATOR))
    return Wav2VecObjective(encoder, Wav2VecObjectiveConfig(**options))


def loss(module: Wav2VecObjective, wavs: list[Tensor], seed: int = 0) -> Any:
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    generator = torch.Generator().manual_seed(seed)
    return module(padded, [len(wav) for wav in wavs], step=0, generator=generator)


def test_it_is_the_cross_entropy_of_valid_frames_and_negatives_in_any_batch() -> None:
    module = objective(num_steps=3, num_negatives=2, num_batch_negatives=2).eval()
    wavs = [torch.randn(count) for count in (3_000, 1_300, module.min_samples)]
    frames = module.encoder(wavs, "z")
    num_frames = [len(row) for row in frames]
    assert num_frames == [16, 6, 4]
    generator = torch.Generator().manual_seed(0)
    drawn = [
        draw_negatives(num_frames, 2, across_batch=across_batch, generator=generator)
        for across_batch in (False, True)
    ]
    negatives = torch.cat(drawn, dim=2)
    padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True).flatten(0, 1)
    weight, bias = (part.unflatten(0, (3, 16)) for part in module.predict.parameters())
    values, hits = [], []
    for row, context in enumerate(module.encoder(wavs)):
        for frame in range(num_frames[row]):
            for index in range(3):
                target = frame + 3 + index
                if target >= num_frames[row]:
                    continue
                prediction = weight[index] @ context[frame] + bias[index]
                positive = frames[row][target] @ prediction
                others = padded[negatives[row, target]] @ prediction
                values.append(-positive.sigmoid().log() - (1 - others.sigmoid()).log().sum())
                hits.append(bool((positive > others).all()))
    assert len(values) == (13 + 12 + 11) + (3 + 2 + 1) + 1
    result = loss(module, wavs)
    torch.testing.assert_close(result.value, torch.stack(values).mean())
    assert result.metrics["accuracy"].item() == pytest.approx(sum(hits) / len(hits))
