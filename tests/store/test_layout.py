from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.errors import OutputError, StoreError
from auricle.extraction.selection import Selection
from auricle.store.folder import LocalFolder
from auricle.store.layout import (
    MAX_COMPONENT_BYTES,
    LayerMeta,
    ShardKey,
    StoreMeta,
    component,
    file_stem,
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


TEXT = st.text(
    st.sampled_from("ab./\\%: \0é~") | st.characters(exclude_categories=["Cs"]), max_size=9
)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("1089/134686/1089-134686-0000", "1089/134686/1089-134686-0000"),
        ("наука é", "наука é"),
        ("../../etc", "%2E%2E/%2E%2E/etc"),
        ("/absolute", "%/absolute"),
        ("a//b/", "a/%/b/%"),
        (".hidden", "%2Ehidden"),
        ("a.", "a%2E"),
        ("100%", "100%25"),
        ("a\\b:c\n", "a%5Cb%3Ac%0A"),
        ("a.npy/b.npy", "a%2Enpy/b.npy"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert file_stem(name, ".npy") == stem


@given(st.lists(TEXT, unique=True, min_size=2, max_size=6))
def test_no_stem_leaves_the_folder_and_no_two_are_the_same(names: list[str]) -> None:
    files = [f"{file_stem(name, '.npy')}.npy" for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        path = PurePosixPath(file)
        assert not path.is_absolute()
        assert str(path) == file  # nothing that a file system takes together
        assert not any(part.startswith(".") for part in path.parts)
        # No file is in the way of another's folders.
        assert not {str(parent) for parent in path.parents} & set(files)


def test_names_too_long_for_a_file_system_end_in_a_digest() -> None:
    long = [character * 200 for character in ("a", "é")] + ["a" * 199 + "b"]
    found = [component(text) for text in long]
    assert len(set(found)) == 3
    assert all(len(name.encode()) <= MAX_COMPONENT_BYTES for name in found)
    assert component("a" * MAX_COMPONENT_BYTES) == "a" * MAX_COMPONENT_BYTES


def test_a_component_has_no_slash_and_nothing_else_asked_for() -> None:
    assert component("a/b.c", also=".") == "a%2Fb%2Ec"
