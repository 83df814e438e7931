from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from auricle.audio.files import read_audio
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError
from auricle.training.batches import BatchStream
from auricle.training.corpus import Corpus, MeasuredUtterance
from auricle.training.loading import Batch, load_batches
from auricle.training.recipe import DataOptions

OPTIONS = DataOptions(batch_seconds=2.0, crop_seconds=0.5)


def batches(corpus: Corpus, count: int, *, workers: int = 0, caches: bool = False) -> list[Batch]:
    stream = BatchStream(corpus=corpus, options=OPTIONS, seed=1)
    decoded = [utterance.read() for utterance in corpus.utterances] if caches else None
    loaded = load_batches(stream, num_workers=workers, decoded=decoded, pin_memory=False)
    return list(islice(loaded, count))


def test_pieces_are_where_the_plan_says(corpus: Corpus) -> None:
    stream = BatchStream(corpus=corpus, options=OPTIONS, seed=1)
    for order, batch in zip(islice(stream, 3), batches(corpus, 3), strict=True):
        assert batch.following == order.following
        for row, count, piece in zip(batch.waveforms, batch.num_samples, order.pieces, strict=True):
            whole = read_audio(corpus.utterances[piece.utterance].utterance.source)
            expected = whole[piece.start : piece.start + piece.num_samples]
            assert count == piece.num_samples
            assert torch.equal(row[:count], expected)
            assert not row[count:].any()


@pytest.mark.parametrize(("workers", "caches"), [(2, False), (0, True)])
def test_workers_and_cache_change_nothing(corpus: Corpus, workers: int, caches: bool) -> None:
    expected = batches(corpus, 6)
    for one, other in zip(
        expected, batches(corpus, 6, workers=workers, caches=caches), strict=True
    ):
        assert torch.equal(one.waveforms, other.waveforms)
        assert (one.num_samples, one.following) == (other.num_samples, other.following)


def test_loading_draws_nothing_from_torch(corpus: Corpus) -> None:
    before = torch.get_rng_state()
    batches(corpus, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    lost = Utterance(id="gone", source=str(tmp_path / "gone.wav"))
    gone = MeasuredUtterance(utterance=lost, key="gone.wav", num_samples=9_000)
    with pytest.raises(AudioError, match=r"gone\.wav"):
        batches(Corpus(utterances=(gone,)), 1)
