"""Where the cache is, and when the network is forbidden."""

from __future__ import annotations

from pathlib import Path

import filelock
import platformdirs
import pytest

from auricle.errors import AuricleError, DownloadError
from auricle.hub.cache import cache_folder, is_offline, locked_in_cache, offline_variable


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert not cache_folder().exists()


def test_a_relative_folder_and_a_tilde_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("AURICLE_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("AURICLE_CACHE", "~/there")
    assert cache_folder() == tmp_path / "home" / "there"


@pytest.mark.parametrize("value", [None, ""])
def test_otherwise_it_is_the_users_cache(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AURICLE_CACHE")
    if value is not None:
        monkeypatch.setenv("AURICLE_CACHE", value)
    assert cache_folder() == Path(platformdirs.user_cache_dir("auricle", appauthor=False))


@pytest.mark.parametrize("name", ["AURICLE_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("TRUE", True),
        ("yes", True),
        (" on ", True),
        ("0", False),
        ("false", False),
        ("no", False),
        ("", False),
    ],
)
def test_offline(name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_offline()
    monkeypatch.setenv(name, value)
    assert is_offline() is expected
    assert offline_variable() == (name if expected else None)


def test_a_file_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "file"))
    with pytest.raises(AuricleError, match=r"AURICLE_CACHE is .*file, a file; set it to a folder"):
        cache_folder()


def test_a_lock_that_another_process_holds_is_a_download_error(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with (
        locked_in_cache(path, 0.0),
        pytest.raises(DownloadError, match="another process has held .*model.ckpt.lock for 0 s"),
        locked_in_cache(path, 0.0),
    ):
        pass


def test_a_cache_whose_files_cannot_be_locked_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(DownloadError, match="set AURICLE_CACHE to a folder on a local disk"),
        locked_in_cache(tmp_path / "f", 0.0),
    ):
        pass
