from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.checkpoints.pickle.archives import ZipArchive
from auricle.errors import CheckpointError

CONTENT = b"content of the member"


def write(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def open_archive(path: Path) -> None:
    with path.open("rb") as file:
        ZipArchive(file, path.stat().st_size)


def directory_entry(content: bytes, name: bytes) -> int:
    """Where the central directory's entry of a member starts."""
    return content.rindex(name) - 46


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.zip", {"r/one": CONTENT, "r/two": b"", "r/.data/id": b"3"})


def test_members_read_relative_to_the_root(path: Path) -> None:
    with path.open("rb") as file:
        archive = ZipArchive(file, path.stat().st_size)
        assert archive.read("one", 100) == CONTENT
        assert archive.read("two", 100) == b""
        assert archive.read_tensor(".data/id").tolist() == [51]
        assert archive.size("one") == len(CONTENT)
        assert archive.size("r/one") is None
        with pytest.raises(CheckpointError, match="no member 'three'"):
            archive.read("three", 100)
        with pytest.raises(CheckpointError, match="expected at most 20"):
            archive.read("one", 20)


@pytest.mark.parametrize(
    "name", ["r/../x", "/r/x", "..", "r//x", "r/./x", "C:/x", "x", "r/a\\b", "../r/x", "r/x/"]
)
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"r/one": b"", "n" * len(name): b""})
    path.write_bytes(path.read_bytes().replace(b"n" * len(name), name.encode()))
    with pytest.raises(CheckpointError, match="unsafe name"):
        open_archive(path)


def test_two_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 root folders"):
        open_archive(write(tmp_path / "a.zip", {"r/one": b"", "q/one": b""}))


def test_no_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="0 root folders"):
        open_archive(write(tmp_path / "a.zip", {}))


def test_duplicates_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"r/one": b"", "r/two": b""})
    path.write_bytes(path.read_bytes().replace(b"r/two", b"r/one"))
    with pytest.raises(CheckpointError, match="two members 'r/one'"):
        open_archive(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("r/bomb", bytes(1_000_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="compressed"):
        open_archive(path)


def test_large_directories_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.checkpoints.pickle.archives.MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(CheckpointError, match=r"a directory of \d+ bytes; expected at most 100"):
        open_archive(path)


def test_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("r/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CheckpointError, match="is a link"):
        open_archive(path)


def patched(position: int, fmt: str, value: int) -> Callable[[bytearray], None]:
    """Return what overwrites one field of the first member's entry in the central directory."""

    def patch(content: bytearray) -> None:
        struct.pack_into(fmt, content, directory_entry(content, b"r/one") + position, value)

    return patch


def local(position: int, fmt: str, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(fmt, content, position, value)


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (patched(8, "<H", 1), "encrypted"),
        (patched(24, "<I", 2**31), "compressed"),
        (patched(20, "<I", 1), "compressed"),
        (patched(20, "<Q", 2**31 * (2**32 + 1)), "reaches past the end"),
        (patched(20, "<Q", 60 * (2**32 + 1)), "overlaps"),
        (patched(42, "<I", 5), "disagrees"),
        (patched(42, "<I", 2**31), "header of its own|damaged"),
        (local(0, "<I", 0), "disagrees|not a file"),
        (local(6, "<H", 1), "compressed or encrypted"),
        (local(8, "<H", 8), "compressed or encrypted"),
        (local(28, "<H", 20), "overlaps"),
        (local(30, "<B", 0), "disagrees"),
    ],
)
def test_lying_headers_are_refused(
    patch: Callable[[bytearray], None], reason: str, path: Path
) -> None:
    content = bytearray(path.read_bytes())
    patch(content)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        open_archive(path)


def test_members_that_share_their_bytes_are_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    one, two = directory_entry(content, b"r/one"), directory_entry(content, b"r/two")
    content[two : two + 46] = content[one : one + 46]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"disagrees|overlaps"):
        open_archive(path)


def test_checksum_of_each_member(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(CONTENT, CONTENT.upper()))
    with path.open("rb") as file:
        archive = ZipArchive(file, path.stat().st_size)
        with pytest.raises(CheckpointError, match="checksum"):
            archive.read("one", 100)


def test_truncation_at_every_byte_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged or truncated"):
            open_archive(path)
