from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from auricle.errors import OutputError
from auricle.extraction.writers import open_format
from auricle.store.layout import ShardKey, StoreMeta
from auricle.store.writer import StoreWriter

IDS = ["speaker/é", "b", "a"]


@pytest.mark.parametrize("pool", [None, "meanstd"])
def test_kaldiio_reads_ark_and_scp(
    tmp_path: Path,
    make_meta: Callable[..., StoreMeta],
    make_items: Callable[..., list],
    pool: str | None,
) -> None:
    meta = make_meta(format="kaldi", pool=pool)
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, IDS)
    writer.write(ShardKey(0, 0), items[:2])
    writer.write(ShardKey(0, 1), items[2:])
    writer.close()
    by_scp = kaldiio.load_scp(str(tmp_path / "feats.scp"))
    assert list(by_scp) == sorted(IDS)
    by_ark = dict(kaldiio.load_ark(str(tmp_path / "shards" / "00000-000000.ark")))
    assert list(by_ark) == IDS[:2]
    for utterance, arrays in items:
        x = arrays["hidden_12"].numpy()
        expected = x[0] if pool else x  # a vector where there is one row
        np.testing.assert_array_equal(by_scp[utterance.id], expected)
        if utterance.id in by_ark:
            np.testing.assert_array_equal(by_ark[utterance.id], expected)


def test_several_layers_have_an_scp_each(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], make_items: Callable[..., list]
) -> None:
    meta = make_meta({"z": 5, "a": 3}, format="kaldi")
    writer = StoreWriter.begin(tmp_path, open_format(meta))
    items = make_items(meta, IDS)
    writer.write(ShardKey(0, 0), items)
    writer.close()
    assert not (tmp_path / "feats.scp").exists()
    for layer in ("z", "a"):
        found = kaldiio.load_scp(str(tmp_path / f"feats.{layer}.scp"))
        assert len(found) == len(IDS)
        for utterance, arrays in items:
            np.testing.assert_array_equal(found[utterance.id], arrays[layer].numpy())


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\u2003b", " a"])
def test_white_space_in_an_id_is_refused(name: str, make_meta: Callable[..., StoreMeta]) -> None:
    with pytest.raises(OutputError, match="Kaldi's ids hold no white space"):
        open_format(make_meta(format="kaldi")).check_id(name)
