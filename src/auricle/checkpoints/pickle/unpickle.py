"""Reading of the checkpoints that `torch.save` wrote, without running what they name.

A pickle is a program. Here its opcodes are decoded and interpreted by a machine of our own that
knows containers, tensors and inert records, and refuses everything else by name.
"""

from __future__ import annotations

import io
import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import torch

from auricle.checkpoints.pickle.archives import ZipArchive
from auricle.checkpoints.pickle.machine import PickleStream, read_pickle
from auricle.checkpoints.pickle.names import CheckpointNames
from auricle.checkpoints.pickle.tensors import StorageRef, fill_from_file
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_PICKLE_BYTES = 64 * 2**20
MAX_BYTEORDER_BYTES = 16

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
"""The first two pickles of a file of torch before 1.6 (torch.serialization)."""
_STREAM_HEADS = (b"\x80", b"L%dL\n" % _STREAM_MAGIC)
"""Beginning of such a file: the PROTO opcode, or the magic number in protocol 0 and 1."""
_STREAM_COUNT = struct.Struct("<q")
"""The number of elements that stands before each storage of such a file."""
_TAR_MAGIC = slice(257, 262)
"""Place of `ustar` in a tar header (POSIX.1-1988)."""
_HEAD_BYTES = 512


class _NoCheckpointError(CheckpointError):
    """A file of another kind: no sandbox would make a checkpoint of it."""


_NEXT_STEP = (
    "Fetch the file again if it may be damaged. If you trust it, open it in a sandbox with "
    "torch.load, save its state dict as a safetensors file and load that with family= and config= "
    "(on the command line --model FAMILY --checkpoint FILE --config JSON)"
)

_MAX_PATH_LENGTH = 4096
_MAX_CONFIG_DEPTH = 64
_MAX_CONFIG_VALUES = 100_000
"""Values that one mapping may unfold to: shared sections are written out at each place."""


def read_legacy_checkpoint(path: Path, part: tuple[int, int] | None = None) -> object:
    """Return the content of a file that `torch.save` wrote, without running any of it.

    Reads the zip format (torch 1.6 on) and the stream of pickles before it. The result holds
    dicts (of subclasses too), lists (sets too), tuples (frozensets and sizes too), str, bytes,
    int, float, bool, None, tensors on the CPU that need no gradient, and an `InertRecord` for each
    other object, or name of a class. Tensors that shared a storage still do. `part` is the start
    and the size of one that lies within a larger file. Nothing is
    extracted, and memory is bounded by the size of the file, beside which tensors may repeat
    16 million elements.

    The bytes of a tensor are read when something is computed of it, so that training state is
    not read into memory; until then the file stays open, and CheckpointError may come late.

    Raises CheckpointError for a file that would run code, is damaged or cut short, or is no such
    checkpoint.
    """
    with _errors_naming(path):
        if not path.is_file():
            raise _NoCheckpointError("there is no such file")
        file = path.open("rb")
        storages = _Storages(path)
        weakref.finalize(storages, file.close)
        if part is None:
            return _read_checkpoint(file, path.stat().st_size, storages)
        inner: io.BufferedReader = io.BufferedReader(_Part(file, *part))
        return _read_checkpoint(inner, part[1], storages)


class _Part(io.RawIOBase):
    """A part of a file, read as a file of its own."""

    def __init__(self, file: io.BufferedReader, start: int, num_bytes: int) -> None:
        self._file, self._start, self._num_bytes = file, start, num_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._num_bytes}[whence]
        self._place = max(origin + offset, 0)
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)[: max(self._num_bytes - self._place, 0)]
        self._file.seek(self._start + self._place)
        count = self._file.readinto(view)
        self._place += count
        return count


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Say in errors which file they are about, and what to do."""
    try:
        yield
    except _NoCheckpointError as error:
        raise CheckpointError(f"{path}: {error}. Check that it is the file you mean") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}. {_NEXT_STEP}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). {_NEXT_STEP}") from error


def as_mapping(value: object) -> dict[str, object]:
    """Return a configuration as nested plain values.

    Takes a dict, the InertRecord of an omegaconf node (its content, without types and parents) or
    of an object with attributes, such as an argparse.Namespace, and unfolds the same inside; enum
    members become their values and paths text. Other values stay as they are. Raises
    CheckpointError if the value is none of these, has keys that are not text, or unfolds without
    end.
    """
    plain = _Unfolding().unfold(value, 0)
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        kind = value.type_name if isinstance(value, InertRecord) else type(value).__name__
        raise CheckpointError(
            f"expected a configuration with named entries (a dict, an argparse.Namespace or an "
            f"omegaconf DictConfig), but got a {kind}"
        )
    return plain


def _read_checkpoint(file: io.BufferedReader, file_bytes: int, storages: _Storages) -> object:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file, file_bytes, storages)
    if head[_TAR_MAGIC] == b"ustar":
        raise CheckpointError("a tar archive, as torch wrote before 2017, is not supported")
    if head.startswith(_STREAM_HEADS):
        return _read_stream(file, file_bytes, storages)
    raise _NoCheckpointError(f"not a file of torch.save: it is {_looks_like(head)}")


def _looks_like(head: bytes) -> str:
    start = head.lstrip()[:64].lower()
    known = {
        b"<!doctype": "a web page",
        b"<html": "a web page",
        b"<?xml": "an XML document",
        b"version https://git-lfs": "a Git LFS pointer instead of the file itself",
        b"{": "JSON text",
        b"\x1f\x8b": "compressed by gzip",
        b"pk\x05\x06": "an empty zip archive",
    }
    if not head:
        return "empty"
    for prefix, kind in known.items():
        if start.startswith(prefix):
            return kind
    if head[8:9] == b"{":
        return "a safetensors file, which needs no conversion"
    return f"data that starts with {head[:16]!r}"


class _Storages:
    """Storages of a file, each read when a tensor is first used.

    Attributes:
        read: Gives the bytes of a storage; set once it is known where they are.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._contents: dict[str, torch.UntypedStorage] = {}
        self.read: Callable[[StorageRef], torch.Tensor] | None = None

    def storage(self, ref: StorageRef) -> torch.UntypedStorage:
        """Return the whole storage; raises CheckpointError if it is damaged."""
        if ref.key not in self._contents:
            assert self.read is not None
            with _errors_naming(self._path):
                self._contents[ref.key] = self.read(ref).untyped_storage()
        return self._contents[ref.key]


def _read_zip(file: io.BufferedReader, file_bytes: int, storages: _Storages) -> object:
    archive = ZipArchive(file, file_bytes)
    if archive.size("byteorder") is not None:
        byteorder = archive.read("byteorder", MAX_BYTEORDER_BYTES)
        if byteorder != b"little":
            raise CheckpointError(f"its byte order is {byteorder!r}; expected b'little'")
    pickled = archive.read("data.pkl", MAX_PICKLE_BYTES)
    names = CheckpointNames(storages, copy_budget=len(pickled))
    content = read_pickle(PickleStream(io.BytesIO(pickled), len(pickled)), names)
    for ref in names.declared.values():
        num_bytes = archive.size(f"data/{ref.key}")
        if num_bytes is None:
            raise CheckpointError(f"the archive has no member 'data/{ref.key}'")
        if num_bytes != ref.num_bytes:
            raise CheckpointError(
                f"storage {ref.label} has {num_bytes} bytes; expected {ref.num_bytes}"
            )
    storages.read = lambda ref: archive.read_tensor(f"data/{ref.key}")
    return content


def _read_stream(file: io.BufferedReader, file_bytes: int, storages: _Storages) -> object:
    """Read five pickles (magic, protocol, system, object, storage keys), and find the storages."""
    num_bytes = min(file_bytes, MAX_PICKLE_BYTES)
    stream = PickleStream(file, num_bytes)
    names = CheckpointNames(storages, copy_budget=num_bytes)
    magic = read_pickle(stream, names)
    if type(magic) is not int or magic != _STREAM_MAGIC:
        raise CheckpointError("a pickle, but not one of torch.save: its first value is no magic")
    protocol = read_pickle(stream, names)
    if type(protocol) is not int or protocol != _STREAM_PROTOCOL:
        raise CheckpointError(f"its protocol is not the expected {_STREAM_PROTOCOL}")
    system = read_pickle(stream, names)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("its byte order is not little-endian")
    content = read_pickle(stream, names)
    keys = read_pickle(stream, names)
    starts = _storage_starts(file, file_bytes, keys, names.declared)

    def read(ref: StorageRef) -> torch.Tensor:
        bytes_read = torch.empty(ref.num_bytes, dtype=torch.uint8)
        file.seek(starts[ref.key])
        fill_from_file(file, bytes_read)
        return bytes_read

    storages.read = read
    return content


def _storage_starts(
    file: io.BufferedReader, file_bytes: int, keys: object, declared: dict[str, StorageRef]
) -> dict[str, int]:
    """Return where the bytes of each storage start, in a file that stands after its pickles.

    Raises CheckpointError unless all that are declared are there, in the order of the keys.
    """
    names = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if not isinstance(keys, list) or len(names) != len(keys):
        raise CheckpointError("its list of storages is not a list of keys")
    if len(set(names)) != len(names) or set(names) != declared.keys():
        raise CheckpointError("its list of storages is not that of its tensors")
    starts: dict[str, int] = {}
    for ref in map(declared.__getitem__, names):
        count = file.read(_STREAM_COUNT.size)
        if len(count) != _STREAM_COUNT.size:
            raise CheckpointError(f"the file is cut short before storage {ref.label}")
        if _STREAM_COUNT.unpack(count)[0] != ref.num_elements:
            raise CheckpointError(
                f"storage {ref.label} has {_STREAM_COUNT.unpack(count)[0]} elements; "
                f"expected {ref.num_elements}"
            )
        starts[ref.key] = file.tell()
        end = starts[ref.key] + ref.num_bytes
        if end > file_bytes:
            raise CheckpointError(
                f"the file is cut short: {end - file_bytes} bytes of storage {ref.label}"
                " are missing"
            )
        file.seek(end)
    return starts


class _Unfolding:
    """One pass over a configuration, with a bound on how far it may unfold."""

    def __init__(self) -> None:
        self._num_values = 0

    def unfold(self, value: object, depth: int) -> object:
        """Return the plain form of a value; raises CheckpointError where it does not end."""
        self._num_values += 1
        if depth > _MAX_CONFIG_DEPTH or self._num_values > _MAX_CONFIG_VALUES:
            raise CheckpointError(
                f"a configuration nested more than {_MAX_CONFIG_DEPTH} deep or of more than "
                f"{_MAX_CONFIG_VALUES} values"
            )
        if isinstance(value, dict):
            return {key: self.unfold(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.unfold(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.unfold(item, depth + 1) for item in value)
        return self._unfold_record(value, depth) if isinstance(value, InertRecord) else value

    def _unfold_record(self, record: InertRecord, depth: int) -> object:
        package = record.type_name.partition(".")[0]
        if record.type_name == "argparse.Namespace":
            return self.unfold({} if record.state is None else record.state, depth + 1)
        if record.type_name == "collections.UserDict" and isinstance(record.state, dict):
            return self.unfold(record.state.get("data"), depth + 1)
        if package == "omegaconf":
            content = self.unfold(_omegaconf_content(record), depth + 1)
            is_tuple = record.type_name.endswith(".TupleConfig")
            return tuple(content) if is_tuple and isinstance(content, list) else content
        if package == "fairseq" and len(record.args) == 1:
            return record.args[0]
        if package == "pathlib":
            parts = [part for part in record.args if isinstance(part, str)]
            is_short = len(parts) == len(record.args) and sum(map(len, parts)) <= _MAX_PATH_LENGTH
            path = PureWindowsPath if "Windows" in record.type_name else PurePosixPath
            return str(path(*parts)) if is_short else record
        attributes = _attributes(record.state)
        if attributes is not None and not record.args:
            return self.unfold(attributes, depth + 1)
        return record


def _attributes(state: object) -> dict[object, object] | None:
    """Return the attributes in a state: a dict, or a pair of dicts where a class has slots."""
    if isinstance(state, dict):
        return state
    if isinstance(state, tuple) and len(state) == 2:
        parts = [{} if part is None else part for part in state]
        dicts = [part for part in parts if isinstance(part, dict)]
        if len(dicts) == len(parts):
            return {**dicts[0], **dicts[1]}
    return None


def _omegaconf_content(record: InertRecord) -> object:
    """Return what an omegaconf node holds: `_content` of a container, `_val` of a leaf.

    Names without an underscore are those of omegaconf 1.
    """
    state = record.state
    if isinstance(state, dict):
        for key in ("_content", "content", "_val", "val"):
            if key in state:
                return state[key]
    raise CheckpointError(f"a {record.type_name} without content")
