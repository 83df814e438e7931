"""Stores as training data: padded batches of similar length, labels, means, times of frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import auricle
from auricle.corpus.utterance import Utterance
from auricle.errors import LayerError, StoreError, UnknownUtteranceError
from auricle.extraction.writers import open_format
from auricle.store.dataset import LengthBatches
from auricle.store.folder import LocalFolder
from auricle.store.layout import ShardKey, StoreMeta, read_meta, refuse_difference, write_meta
from auricle.store.reader import Store, open_store
from auricle.store.writer import StoreWriter

IDS = [f"u{index:02}" for index in range(23)]

Write = Callable[..., Store]


@pytest.fixture
def write(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list[tuple[Utterance, dict[str, Tensor]]]],
) -> Write:
    """Writes a store of utterances with 3, 4, ... frames."""

    def make(*arguments: object, **fields: object) -> Store:
        meta = make_meta(*arguments, **fields)
        writer = StoreWriter.begin(tmp_path / "store", open_format(meta))
        writer.write(ShardKey(0, 0), make_items(meta, IDS))
        writer.close()
        return open_store(tmp_path / "store")

    return make


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_is_every_example_once_padded(write: Write, num_workers: int) -> None:
    store = write()
    labels = {name: index for index, name in enumerate(IDS)}
    dataset = store.dataset(labels=labels)
    sampler = dataset.batches(max_frames=60)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=num_workers, collate_fn=dataset.collate
    )
    num_batches = len(loader)
    batches = list(loader)
    assert len(batches) == num_batches > 1
    assert sorted(name for batch in batches for name in batch["ids"]) == IDS
    for batch in batches:
        frames, lengths = batch["frames"], batch["lengths"]
        assert frames.shape == (len(batch["ids"]), lengths.max(), 6)
        assert frames.shape[0] * frames.shape[1] <= 60
        assert batch["labels"].tolist() == [labels[name] for name in batch["ids"]]
        for name, x, length in zip(batch["ids"], frames, lengths, strict=True):
            assert torch.equal(x[:length], store.get(name))
            assert not x[length:].any()


def test_batches_follow_from_seed_and_epoch(write: Write) -> None:
    dataset = write().dataset()
    one, other = dataset.batches(60, seed=3), dataset.batches(60, seed=3)
    epochs = [list(one) for _ in range(3)]
    assert epochs[0] != epochs[1]
    assert {frozenset(b) for b in epochs[0]} != {frozenset(b) for b in epochs[2]}
    other.set_epoch(1)
    assert [list(other), list(other)] == epochs[1:]
    assert list(dataset.batches(60, seed=9)) != epochs[0]


def test_sizes_of_batches(write: Write) -> None:
    dataset = write().dataset()
    in_order = list(dataset.batches(60, shuffle=False))
    assert list(itertools.chain(*in_order)) == list(range(len(IDS)))
    for batch, following in itertools.pairwise(in_order):
        assert (len(batch) + 1) * dataset.lengths[following[0]] > 60  # as many as fit
    assert {len(batch) for batch in dataset.batches(1000, batch_size=5)} == {5, 3}
    assert [len(batch) for batch in dataset.batches(1)] == [1] * len(IDS)
    with pytest.raises(StoreError, match="max_frames must be positive, but is 0"):
        dataset.batches(0)


def test_padding_is_a_tenth_at_most(tmp_path: Path) -> None:
    lengths = torch.randint(20, 2000, (3000,), generator=torch.Generator().manual_seed(0))
    batches = list(LengthBatches(lengths.tolist(), 20_000))
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert int(lengths.sum()) / padded > 0.9


def test_a_split_with_labels_of_frames(write: Write) -> None:
    store = write()
    labels = {name: torch.arange(store.num_frames(name)) for name in ("u05", "u02")}
    dataset = store.dataset(ids=["u05", "u02"], labels=labels)
    assert [example[0] for example in (dataset[0], dataset[1])] == ["u05", "u02"]
    batch = dataset.collate([dataset[0], dataset[1]])
    assert batch["labels"].tolist() == [[*range(8)], [*range(5), -100, -100, -100]]
    with pytest.raises(StoreError, match="1 of 2 utterances have no label, such as 'u03'"):
        store.dataset(ids=["u05", "u03"], labels=labels)
    with pytest.raises(UnknownUtteranceError, match="u99"):
        store.dataset(ids=["u99"])
    with pytest.raises(StoreError, match="no examples"):
        dataset.collate([])


def test_several_layers_are_padded_each(write: Write) -> None:
    store = write({"a": 2, "b": 3})
    dataset = store.dataset()
    batch = dataset.collate([dataset[0], dataset[1]])
    assert batch["frames"]["a"].shape == (2, 4, 2)
    assert batch["frames"]["b"].shape == (2, 4, 3)
    assert batch["lengths"]["b"].tolist() == [3, 4] == dataset.lengths[:2]
    assert "labels" not in batch


def test_a_matrix_of_means_or_of_pooled_vectors(write: Write) -> None:
    store = write({"a": 2, "b": 3}, dtype="float16")
    ids, matrix = store.matrix(layer="b")
    assert ids == IDS
    assert matrix.dtype == torch.float32
    for name, row in zip(ids, matrix, strict=True):
        torch.testing.assert_close(row, store.get(name, layer="b").float().mean(0))
    with pytest.raises(LayerError, match="one of a, b"):
        store.matrix()


def test_a_matrix_of_pooled_vectors_is_what_was_written(write: Write) -> None:
    store = write(pool="mean")
    _, matrix = store.matrix()
    assert torch.equal(matrix, torch.cat([store.get(name) for name in IDS]))


def test_integers_have_no_mean(write: Write) -> None:
    with pytest.raises(StoreError, match="int64, units or codes, which have no mean"):
        write(dtype="int64").matrix()


@pytest.mark.parametrize("layer", ["rnn_1", "rnn_3"])
def test_frame_times_are_the_encoders(tmp_path: Path, layer: str) -> None:
    encoder = auricle.load("apc_mini", device="cpu")
    wav = torch.randn(16_123, generator=torch.Generator().manual_seed(0)) / 10
    soundfile.write(tmp_path / "one.wav", wav.numpy(), 16_000, subtype="FLOAT")
    auricle.extract(tmp_path / "one.wav", tmp_path / "out", model=encoder, layers=[layer])
    store = open_store(tmp_path / "out")
    times = store.frame_times("one")
    assert torch.equal(times, encoder.frame_times(len(wav), layer))
    assert times.shape == (store.num_frames("one"), 2)


def test_frame_times_of_what_has_none(write: Write) -> None:
    store = write()
    with pytest.raises(StoreError, match=r"auricle 0\.1\.0, which recorded no windows"):
        store.frame_times("u00")


def test_an_earlier_store_is_continued(tmp_path: Path, make_meta: Callable[..., StoreMeta]) -> None:
    """Earlier versions recorded no windows: that is no difference; another hop is one."""
    folder, earlier = LocalFolder(tmp_path), make_meta()
    write_meta(folder, earlier)
    replace = msgspec.structs.replace
    layer = replace(earlier.layers[0], window_samples=400, start_samples=-200)
    found = read_meta(folder)
    assert found is not None
    refuse_difference(folder, found, replace(earlier, layers=(layer,)))
    other = replace(earlier, layers=(replace(layer, hop_samples=320),))
    with pytest.raises(auricle.OutputError, match="layers"):
        refuse_difference(folder, found, other)
