"""One writer at a time, and what is said where that cannot be had."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from auricle.errors import DownloadError
from auricle.hub.locks import locked


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with (
        locked(path, 0.0),
        pytest.raises(DownloadError, match="another process has held"),
        locked(path, 0.0),
    ):
        pass
    with locked(path, 0.0):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [".model.ckpt.lock"]


def test_others_of_a_shared_folder_may_wait_too(tmp_path: Path) -> None:
    with locked(tmp_path / "f", 0.0):
        assert (tmp_path / ".f.lock").stat().st_mode & 0o666 == 0o666


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(DownloadError, match="folder on a local disk"), locked(tmp_path / "f", 0.0):
        pass
