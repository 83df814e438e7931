from __future__ import annotations

import os
from pathlib import Path

import pytest

from auricle.cli.folders import check_folder
from auricle.errors import OutputError


def test_a_folder_that_is_or_can_be_made_is_right_and_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder(Path("new"))
    check_folder(Path())


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file; choose another folder"):
        check_folder(tmp_path / name)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="no permission for"):
        check_folder(tmp_path / "new")


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write to"):
        check_folder(tmp_path / ("x" * 5000))
