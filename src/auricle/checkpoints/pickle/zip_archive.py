"""Reading of the zip archives that `torch.save` writes: stored members only, never extracted."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, cast

import torch

from auricle.checkpoints.pickle.tensors import fill_from_file
from auricle.errors import CheckpointError

MAX_DIRECTORY_BYTES = 16 * 2**20
"""Some 80 bytes for each tensor; `zipfile` takes ten times as much to read them."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Signature, version, flags, method, time, date, CRC, sizes, lengths of name and extra field
(APPNOTE.TXT of the zip format, 4.3.7)."""
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
"""Flag bits: encrypted, strongly encrypted, central directory encrypted (APPNOTE.TXT, 4.4.4)."""
_UTF8_NAME = 0x0800

_UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    OSError,
    struct.error,
)


@dataclass(frozen=True)
class _Member:
    start: int
    num_bytes: int
    crc: int


class ZipArchive:
    """The members of one archive under its one root folder, checked against each other.

    Raises CheckpointError for an archive that is damaged, or that `torch.save` cannot have
    written: compressed, encrypted or linked members, names that leave the root, duplicates,
    members that overlap or are larger than the file.
    """

    def __init__(self, file: io.BufferedReader, file_bytes: int) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(cast(IO[bytes], _Directory(file))) as archive:
                entries = archive.infolist()
        except _UNREADABLE as error:
            raise CheckpointError(f"damaged or truncated zip archive ({error})") from error
        self._members = _checked_members(file, file_bytes, entries)
        roots = {name.partition("/")[0] for name in self._members}
        if len(roots) != 1:
            raise CheckpointError(
                f"a zip archive with {len(roots)} root folders; torch.save writes one"
            )
        self._root = roots.pop()

    def size(self, name: str) -> int | None:
        """Return the bytes of a member, named relative to the root; None if there is none."""
        member = self._members.get(f"{self._root}/{name}")
        return None if member is None else member.num_bytes

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a small member; raises CheckpointError if missing or damaged."""
        num_bytes = self.size(name)
        if num_bytes is not None and num_bytes > max_bytes:
            raise CheckpointError(f"{name!r} has {num_bytes} bytes; expected at most {max_bytes}")
        return self.read_tensor(name).numpy().tobytes()

    def read_tensor(self, name: str) -> torch.Tensor:
        """Return the content of a member as a 1-D tensor of bytes.

        Raises CheckpointError for a member that is missing, cut short or fails its checksum.
        """
        member = self._members.get(f"{self._root}/{name}")
        if member is None:
            raise CheckpointError(f"the archive has no member {name[:120]!r}")
        content = torch.empty(member.num_bytes, dtype=torch.uint8)
        self._file.seek(member.start)
        if zlib.crc32(fill_from_file(self._file, content)) != member.crc:
            raise CheckpointError(f"member {name[:120]!r} does not match its checksum")
        return content


class _Directory:
    """A file as `zipfile` sees it, which reads a directory at once and makes objects of it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(
                f"a directory of {size} bytes; expected at most {MAX_DIRECTORY_BYTES}"
            )
        return self._file.read(size)


def _checked_members(
    file: io.BufferedReader, file_bytes: int, entries: list[zipfile.ZipInfo]
) -> dict[str, _Member]:
    members: dict[str, _Member] = {}
    end_of_last = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        _check_name(name)
        _check_storage(entry)
        if name in members:
            raise CheckpointError(f"the archive has two members {name[:120]!r}")
        start = _data_start(file, entry)
        if entry.header_offset < end_of_last or start + entry.file_size > file_bytes:
            raise CheckpointError(
                f"member {name[:120]!r} overlaps another one or reaches past the end of the file"
            )
        end_of_last = start + entry.file_size
        members[name] = _Member(start, entry.file_size, entry.CRC)
    return members


def _check_name(name: str) -> None:
    parts = name.split("/")
    is_plain = len(parts) > 1 and all(part not in ("", ".", "..") for part in parts)
    if not is_plain or "\\" in name or ":" in parts[0] or "\0" in name:
        raise CheckpointError(f"the archive has a member with the unsafe name {name[:120]!r}")


def _check_storage(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename[:120]
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise CheckpointError(f"member {name!r} is compressed; torch.save stores its members")
    if entry.flag_bits & _ENCRYPTED:
        raise CheckpointError(f"member {name!r} is encrypted")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise CheckpointError(f"member {name!r} is a link")


def _data_start(file: io.BufferedReader, entry: zipfile.ZipInfo) -> int:
    """Return where a member's bytes start, from its own header, which must agree on its name."""
    name = entry.orig_filename
    try:
        file.seek(entry.header_offset)
        header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        own_name = file.read(header[9])
        listed_name = name.encode("utf-8" if entry.flag_bits & _UTF8_NAME else "cp437")
    except _UNREADABLE as error:
        raise CheckpointError(f"member {name[:120]!r} has no header of its own") from error
    if header[0] != _LOCAL_SIGNATURE or own_name != listed_name:
        raise CheckpointError(f"member {name[:120]!r} disagrees with the archive's directory")
    if header[3] != zipfile.ZIP_STORED or header[2] & _ENCRYPTED:
        raise CheckpointError(f"member {name[:120]!r} is compressed or encrypted")
    start: int = entry.header_offset + _LOCAL_HEADER.size + header[9] + header[10]
    return start
