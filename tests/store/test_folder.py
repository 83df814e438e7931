from __future__ import annotations

import errno
import hashlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from auricle.errors import MissingExtraError, OutputError
from auricle.files.atomic import lock_path
from auricle.store.folder import (
    MIN_MAPPED_BYTES,
    Folder,
    LocalFolder,
    RemoteFolder,
    open_folder,
)


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "local":
        yield open_folder(tmp_path / "store")
        return
    yield open_folder("memory://bucket/store")
    fsspec.filesystem("memory").store.clear()


def writing(content: bytes) -> Callable[[Path], None]:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    return write


def test_what_is_written_is_read_and_digested(folder: Folder) -> None:
    digest = folder.write_whole("shards/é.bin", writing(b"0123456789"))
    assert digest.size == 10
    assert digest.sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert folder.digest("shards/é.bin") == digest
    assert folder.read_range("shards/é.bin", 3, 4) == b"3456"
    assert folder.read_range("shards/é.bin", 8, 4) == b"89"
    with folder.open("shards/é.bin") as file:
        assert file.read() == b"0123456789"


def test_lists_files_below_a_folder(folder: Folder) -> None:
    assert folder.sizes("shards") == {}
    for name in ("shards/b", "shards/deep/a", "meta.json", "shards/.temporary"):
        folder.write_whole(name, writing(name.encode()))
    assert folder.sizes("shards") == {"shards/b": 8, "shards/deep/a": 13}
    assert list(folder.sizes()) == ["meta.json", "shards/b", "shards/deep/a"]


def test_removes_files_that_are_there_and_those_that_are_not(folder: Folder) -> None:
    folder.write_whole("parts/a", writing(b"a"))
    folder.remove("parts/a")
    folder.remove("parts/a")
    assert folder.sizes() == {}
    with pytest.raises(FileNotFoundError):
        folder.open("parts/a")


def test_a_write_that_fails_leaves_the_old_file(folder: Folder) -> None:
    folder.write_whole("a", writing(b"old"))

    def fill(temporary: Path) -> None:
        temporary.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="cannot write .*a: No space left"):
        folder.write_whole("a", fill)
    assert folder.sizes() == {"a": 3}
    folder.remove_debris()
    assert folder.sizes() == {"a": 3}


@pytest.mark.parametrize("name", ["../a", "shards/../../a", "/a", ""])
def test_no_name_leads_out_of_the_folder(folder: Folder, name: str) -> None:
    with pytest.raises(OutputError, match="does not name a file below"):
        folder.write_whole(name, writing(b""))
    with pytest.raises(OutputError, match="does not name a file below"):
        folder.open(name)


def test_another_process_writes_to_the_same_place(folder: Folder) -> None:
    folder.sizes()  # what is open is not pickled
    pickle.loads(pickle.dumps(folder)).write_whole("a", writing(b"a"))
    assert folder.sizes() == {"a": 1}


def test_debris_of_killed_writers_goes(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    folder.write_whole("shards/a", writing(b"a"))
    (tmp_path / "shards" / ".a.x7dk").write_bytes(b"half")
    lock_path(tmp_path).touch()  # without it two runs could hold the lock at once
    folder.remove_debris()
    assert lock_path(tmp_path).exists()
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["a"]


def test_a_map_is_private_and_only_of_large_files(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    folder.write_whole("small", writing(b"a" * 1000))
    assert folder.map("small") is None
    folder.write_whole("large", writing(b"a" * MIN_MAPPED_BYTES))
    mapped = folder.map("large")
    assert mapped is not None
    assert len(mapped) == MIN_MAPPED_BYTES
    mapped[0] = 0
    assert (tmp_path / "large").read_bytes()[:1] == b"a"


def test_addresses_decide_the_kind_of_folder(tmp_path: Path) -> None:
    local = open_folder(f"file://{tmp_path}")
    assert isinstance(local, LocalFolder)
    assert local.path == tmp_path
    assert isinstance(open_folder("memory://x"), RemoteFolder)
    assert local.where("meta.json") == str(tmp_path / "meta.json")
    assert open_folder("memory://x/y/").where("meta.json") == "memory://x/y/meta.json"


def test_an_address_that_nothing_knows_is_an_error() -> None:
    with pytest.raises(OutputError, match="cannot open nowhere://x: Protocol not known"):
        open_folder("nowhere://x").sizes()


def test_a_protocol_whose_package_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lack(location: str) -> object:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lack)
    with pytest.raises(MissingExtraError, match="Install s3fs"):
        open_folder("s3://bucket/store").sizes()
