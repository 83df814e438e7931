from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from auricle.audio.files import read_audio
from auricle.corpus.utterance import Utterance
from auricle.errors import AudioError, RecipeError
from auricle.training.batches import (
    BatchStream,
    Crop,
    DataPosition,
    TrainingBatch,
    cut_crops,
    draw,
    load_batches,
    plan_epoch,
)
from auricle.training.building import Corpus, MeasuredUtterance
from auricle.training.recipe import DataOptions


def corpus_of(*lengths: int) -> Corpus:
    return Corpus(
        utterances=tuple(
            MeasuredUtterance(
                utterance=Utterance(id=str(index), source=f"{index}.wav"),
                key=f"{index}.wav",
                num_samples=length,
            )
            for index, length in enumerate(lengths)
        )
    )


VARIED = corpus_of(*(16_000 + 700 * index for index in range(60)))
WHOLE = DataOptions(batch_seconds=16.0, num_buckets=4)
CROPPED = DataOptions(batch_seconds=16.0, crop_seconds=0.5)


def test_draws_are_the_same_everywhere() -> None:
    # Literal, so that another machine or version that differs is noticed.
    assert draw(1, 2, "crop", "a.wav") == 7341241079143768247
    assert draw(1, 2, "crop", "b.wav") != draw(1, 2, "crop", "a.wav")


def test_draws_are_uniform() -> None:
    values = [draw(0, 0, index) / 2**64 for index in range(4_000)]
    assert sum(values) / 4_000 == pytest.approx(0.5, abs=0.02)
    counts = Counter(int(value * 4) for value in values)
    assert all(count == pytest.approx(1_000, abs=120) for count in counts.values())


def test_crops_lie_side_by_side_and_move_with_the_epoch() -> None:
    corpus = corpus_of(20_500, 8_000, 5_000)
    starts = set()
    for epoch in range(50):
        first, second, whole, short = cut_crops(corpus, CROPPED, 0, epoch)
        assert first.num_samples == second.num_samples == 8_000
        assert second.start == first.start + 8_000
        assert 0 <= first.start <= 4_500
        assert (whole, short) == (Crop(1, 0, 8_000), Crop(2, 0, 5_000))
        starts.add(first.start)
    assert len(starts) > 40
    assert min(starts) < 900
    assert max(starts) > 3_600


def test_every_crop_is_used_once_and_batches_are_full() -> None:
    batches = plan_epoch(VARIED, WHOLE, 0, 0)
    counts = Counter(crop.utterance for batch in batches for crop in batch)
    assert set(counts.values()) == {1}
    left_out = 60 - len(counts)
    sizes = [len(batch) * max(crop.num_samples for crop in batch) for batch in batches]
    assert max(sizes) <= 256_000
    assert left_out * 58_000 < 256_000
    assert sum(sizes) > 0.75 * 256_000 * len(batches)


def test_buckets_save_padding() -> None:
    def padding(num_buckets: int) -> float:
        options = DataOptions(batch_seconds=16.0, num_buckets=num_buckets)
        batches = plan_epoch(VARIED, options, 0, 0)
        padded = sum(len(b) * max(p.num_samples for p in b) for b in batches)
        return 1 - sum(p.num_samples for b in batches for p in b) / padded

    assert padding(8) < 0.5 * padding(1)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert plan_epoch(VARIED, WHOLE, 0, 0) == plan_epoch(VARIED, WHOLE, 0, 0)
    plans = [plan_epoch(VARIED, WHOLE, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(plans[0] != plan for plan in plans[1:])
    assert set(plans[0]) != set(plans[1])  # other company, not another order alone


def test_an_utterance_longer_than_a_batch_goes_alone() -> None:
    batches = plan_epoch(corpus_of(400_000, 16_000), DataOptions(batch_seconds=2.0), 0, 0)
    assert [len(batch) for batch in batches] == [1, 1]


def test_a_corpus_smaller_than_a_batch_is_one() -> None:
    (batch,) = plan_epoch(corpus_of(1_000, 2_000), WHOLE, 0, 0)
    assert len(batch) == 2


def test_a_stream_goes_on_from_anywhere() -> None:
    stream = BatchStream(corpus=VARIED, options=WHOLE, seed=5)
    orders = list(islice(stream, 40))
    assert {order.following.epoch for order in orders} > {0, 1}
    for place in (0, 7, 20):
        later = BatchStream(corpus=VARIED, options=WHOLE, seed=5, start=orders[place].following)
        assert list(islice(later, 19)) == orders[place + 1 : place + 20]


def test_processes_share_an_epoch_without_overlap() -> None:
    batches = plan_epoch(VARIED, WHOLE, 5, 0)
    usable = len(batches) - len(batches) % 3
    shares = []
    for rank in range(3):
        stream = BatchStream(corpus=VARIED, options=WHOLE, seed=5, rank=rank, num_processes=3)
        share = list(islice(stream, usable // 3 + 1))
        assert share[-2].following.epoch == 0
        assert share[-1].following == DataPosition(1, 3)
        shares.append([order.crops for order in share[:-1]])
    dealt = [crops for turn in zip(*shares, strict=True) for crops in turn]
    assert dealt == batches[:usable]


def test_more_processes_than_batches_are_refused() -> None:
    stream = BatchStream(corpus=corpus_of(1_000), options=WHOLE, seed=0, num_processes=2)
    with pytest.raises(RecipeError, match="1 batches, but there are 2 processes"):
        next(iter(stream))


OPTIONS = DataOptions(batch_seconds=2.0, crop_seconds=0.5)


def batches(
    corpus: Corpus, count: int, *, workers: int = 0, caches: bool = False
) -> list[TrainingBatch]:
    stream = BatchStream(corpus=corpus, options=OPTIONS, seed=1)
    decoded = [utterance.read() for utterance in corpus.utterances] if caches else None
    loaded = load_batches(stream, num_workers=workers, decoded=decoded, pin_memory=False)
    return list(islice(loaded, count))


def test_pieces_are_where_the_plan_says(corpus: Corpus) -> None:
    stream = BatchStream(corpus=corpus, options=OPTIONS, seed=1)
    for order, batch in zip(islice(stream, 3), batches(corpus, 3), strict=True):
        assert batch.following == order.following
        for row, count, crop in zip(batch.waveforms, batch.num_samples, order.crops, strict=True):
            whole = read_audio(corpus.utterances[crop.utterance].utterance.source)
            expected = whole[crop.start : crop.start + crop.num_samples]
            assert count == crop.num_samples
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
