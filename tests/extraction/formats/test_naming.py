from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auricle.extraction.formats.naming import MAX_COMPONENT_BYTES, component, file_stem

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
