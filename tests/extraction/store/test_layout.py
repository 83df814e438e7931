from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import OutputError, StoreError
from auricle.extraction.store.folder import LocalFolder
from auricle.extraction.store.layout import (
    LayerMeta,
    Selection,
    ShardKey,
    StoreMeta,
    parse_stem,
    plan_file,
    read_meta,
    refuse_difference,
    write_meta,
)


def test_names_sort_as_shards_do_and_read_back() -> None:
    key = ShardKey(0, 12)
    assert key.stem == "00000-000012"
    assert key.part == "parts/00000-000012.parquet"
    assert key.file(".ark") == "shards/00000-000012.ark"
    assert parse_stem(key.stem) == key
    assert parse_stem(ShardKey(123456, 12345678).stem) == (123456, 12345678)
    assert parse_stem("notes") is None
    assert plan_file(3) == "plans/00003.parquet"


def test_meta_reads_back(tmp_path: Path, make_meta: Callable[..., StoreMeta]) -> None:
    folder = LocalFolder(tmp_path)
    assert read_meta(folder) is None
    meta = make_meta({"a": 3, "b": 4}, licence="MIT")
    write_meta(folder, meta)
    assert read_meta(folder) == meta
    shown = json.loads((tmp_path / "meta.json").read_text())
    assert shown["layers"][1] == {"name": "b", "dim": 4, "hop_samples": 160}


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("model_sha256", "cd" * 32, '"abab.*", this run\'s is "cdcd'),
        ("dtype", "float16", '"float32", this run\'s is "float16"'),
        ("layers", (LayerMeta(name="hidden_12", dim=6, hop_samples=320),), "160.*320"),
        ("selection", Selection(layers=("hidden_12",), pool="mean"), 'null.*"mean"'),
    ],
)
def test_another_extraction_is_refused(
    tmp_path: Path, make_meta: Callable[..., StoreMeta], field: str, value: object, shown: str
) -> None:
    with pytest.raises(OutputError, match=f"its {field}.* is .*{shown}.*take another folder"):
        refuse_difference(LocalFolder(tmp_path), make_meta(), make_meta(**{field: value}))


def test_a_later_version_of_the_library_goes_on(
    tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> None:
    later = make_meta(library_version="9.9.9", closed=True)
    refuse_difference(LocalFolder(tmp_path), make_meta(), later)


def test_damaged_or_foreign_meta_is_an_error(
    tmp_path: Path, make_meta: Callable[..., StoreMeta]
) -> None:
    folder = LocalFolder(tmp_path)
    write_meta(folder, make_meta(version=2))
    with pytest.raises(StoreError, match="of version 2, expected 1"):
        read_meta(folder)
    for text in ("{", "{}", '{"format": 3}'):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(StoreError, match="does not describe a store"):
            read_meta(folder)
