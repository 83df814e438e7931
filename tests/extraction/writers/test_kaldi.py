"""Kaldi's lists beside the ark, and compressed matrices, as kaldiio reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from torch import Tensor

from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError
from auricle.extraction.writers import open_format
from auricle.store.layout import LayerMeta, ShardKey, StoreMeta
from auricle.store.reader import open_store
from auricle.store.writer import StoreWriter

KALDI_IDS = ["speaker/é", "b", "a"]

MakeMeta = Callable[..., StoreMeta]
MakeItems = Callable[..., list[tuple[Utterance, dict[str, Tensor]]]]


def test_lists_of_lengths(tmp_path: Path, make_meta: MakeMeta, make_items: MakeItems) -> None:
    """They are there once the store is closed, also after it has grown."""
    meta = make_meta(format="kaldi")
    items = make_items(meta, KALDI_IDS)
    for count, some in ((1, items[:2]), (2, items[2:])):
        writer = StoreWriter.begin(tmp_path, open_format(meta))
        writer.reopen()
        writer.write(ShardKey(0, count), some)
        writer.close()
    assert (tmp_path / "utt2num_frames").read_text() == "a 5\nb 4\nspeaker/é 3\n"
    assert (tmp_path / "utt2dur").read_text() == "a 1.25\nb 1.25\nspeaker/é 1.25\n"
    assert (tmp_path / "frame_shift").read_text() == "0.01\n"
    feats = kaldiio.load_scp(str(tmp_path / "feats.scp"))
    assert {name: len(x) for name, x in feats.items()} == {"a": 5, "b": 4, "speaker/é": 3}


def test_lists_of_several_layers_and_of_vectors(
    tmp_path: Path, make_meta: MakeMeta, make_items: MakeItems
) -> None:
    for folder, meta in (
        ("several", make_meta({"z": 5, "a": 3}, format="kaldi")),
        ("pooled", make_meta(format="kaldi", pool="mean", layers=POOLED)),
    ):
        writer = StoreWriter.begin(tmp_path / folder, open_format(meta))
        writer.write(ShardKey(0, 0), make_items(meta, KALDI_IDS))
        writer.close()
    several = {path.name for path in (tmp_path / "several").iterdir() if path.suffix != ".json"}
    layers = {f"{name}.{layer}" for name in ("utt2num_frames", "frame_shift") for layer in "az"}
    assert layers < several
    pooled = {path.name for path in (tmp_path / "pooled").iterdir()}
    assert "utt2dur" in pooled
    assert not {"utt2num_frames", "frame_shift"} & pooled  # rows are no frames


POOLED = (LayerMeta(name="hidden_12", dim=6, hop_samples=None),)

LOSS = {"auto": 0.02, "two-byte": 1e-4, "one-byte": 0.02}
"""Largest standard deviation of the error, in those of the values."""


@pytest.mark.parametrize("compression", LOSS)
def test_compressed_matrices_are_read_alike(
    tmp_path: Path, make_meta: MakeMeta, compression: str
) -> None:
    """By us and by kaldiio, of few frames (which "auto" keeps in two bytes) and of many."""
    meta = make_meta({"x": 40}, format="kaldi", compression=compression)
    generator = torch.Generator().manual_seed(0)
    items = [
        (
            Utterance(id=f"u{n}", source="s"),
            {"x": torch.randn(n, 40, generator=generator) * torch.arange(1, 41)},
        )
        for n in (1, 8, 9, 300)
    ]
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    writer.write(ShardKey(0, 0), items)
    writer.close()
    store, theirs = open_store(tmp_path), kaldiio.load_scp(str(tmp_path / "feats.scp"))
    for utterance, arrays in items:
        x, found = arrays["x"], store.get(utterance.id)
        np.testing.assert_allclose(found, theirs[utterance.id], rtol=1e-5, atol=1e-4)
        assert found.dtype == torch.float32
        assert (found - x).std(correction=0) < LOSS[compression] * x.std(correction=0)
    assert not store.verify()
    item_bytes = 2 if compression == "two-byte" else 1
    assert (tmp_path / "shards/00000-000000.ark").stat().st_size < 1.3 * item_bytes * 318 * 40
    # Another compression is another extraction; a discarded neighbour changes nothing else.
    other = open_format(make_meta({"x": 40}, format="kaldi"))
    with pytest.raises(OutputError, match="compression is"):
        StoreWriter.begin(tmp_path, other)
    before = store.get("u300").clone()
    assert writer.discard(ShardKey(0, 0), {"u1"})
    writer.close()
    torch.testing.assert_close(open_store(tmp_path).get("u300"), before, rtol=0, atol=0.05)


def test_compression_is_refused_where_there_is_none(make_meta: MakeMeta) -> None:
    with pytest.raises(OutputError, match="is for the format kaldi, but the format is npy"):
        open_format(make_meta(format="npy", compression="auto"))
    with pytest.raises(OutputError, match="pooled utterances are vectors"):
        open_format(make_meta(format="kaldi", compression="auto", pool="mean"))
