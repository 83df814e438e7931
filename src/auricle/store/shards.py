"""Shards of a store: formats that write them, arrays mapped from disk, checks of their digests."""

from __future__ import annotations

import abc
import dataclasses
import importlib
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError, StoreError
from auricle.files.safetensors import METADATA, write_safetensors
from auricle.optional import optional
from auricle.store.folder import FileDigest, Folder
from auricle.store.index import (
    CHANGED_REMEDY,
    INDEX_REMEDY,
    ITEM_BYTES,
    PART_REMEDY,
    PLAN_REMEDY,
    Damage,
    index_batches,
    meta_of_parts,
    part_keys,
    read_checked,
    read_parts,
    shard_sizes,
    size_damage,
    unreadable,
)
from auricle.store.layout import (
    INDEX,
    META,
    META_REMEDY,
    PARTS,
    PLANS,
    ShardKey,
    StoreMeta,
    read_meta,
    refuse_difference,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray
    from torch import Tensor


Item: TypeAlias = "tuple[Utterance, Mapping[str, Tensor]]"
"""An utterance and its arrays (T, D) on the CPU, by layer."""

IndexBatches: TypeAlias = "Callable[[], Iterator[pyarrow.RecordBatch]]"
"""Gives all rows of the index, sorted by id, as often as it is called."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Location of an array: utterance and layer, file below the store, offset in bytes."""

    id: str
    layer: str
    file: str
    offset: int


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A shard on disk: a placement per array in the order of the items, and the files."""

    placements: Sequence[Placement]
    files: Mapping[str, FileDigest]


class ShardFormat(abc.ABC):
    """One way to write shards, for a store that holds what `meta` says.

    Raises:
        OutputError: The format has no such type of values.
        MissingExtraError: The package that writes it is not installed.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int16", "int32", "int64")
    hint: ClassVar[str] = ""
    """Addition to the error that the format has no such type."""
    package: ClassVar[str | None] = None
    """Optional package that writes it."""

    def __init__(self, meta: StoreMeta) -> None:
        if meta.dtype not in self.dtypes:
            raise OutputError(
                f"{self.name} has no {meta.dtype}; choose one of {', '.join(self.dtypes)}, or "
                f"another format{self.hint}"
            )
        if self.package is not None:
            with optional(self.package, f"the {self.name} format"):
                importlib.import_module(self.package)
        self.meta = meta
        self.layers = tuple(layer.name for layer in meta.layers)

    @abc.abstractmethod
    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        """Write a shard. When this returns its files are whole and on disk.

        Raises:
            OutputError: It cannot be written.
        """

    def check_id(self, utterance_id: str) -> None:
        """Raise OutputError where the format cannot hold an utterance of this name."""
        is_text = bool(utterance_id) and "\0" not in utterance_id
        try:
            utterance_id.encode()
        except UnicodeEncodeError:
            is_text = False
        if not is_text:
            raise OutputError(
                f"an id must be text and not empty, but is {utterance_id!r}; rename it"
            )

    def finish(  # noqa: B027 - most need none
        self, folder: Folder, batches: IndexBatches, order: Sequence[str] = ()
    ) -> None:
        """Write what the format has besides shards, once the index holds all of them.

        Args:
            folder: The store.
            batches: All rows of its index.
            order: Ids in the order of the corpus, as far as that is known.

        Raises:
            OutputError: It cannot be written.
        """


def values(x: Tensor) -> NDArray[Any]:
    """An array's values in a type that NumPy knows, without a copy where they lie together."""
    return x.detach().contiguous().numpy()


def path_text(path: str) -> str:
    """A path as text that can be written, also where its bytes are no text."""
    return path.encode("utf-8", "backslashreplace").decode()


class StoreFormat(ShardFormat):
    """One safetensors file per shard (https://github.com/huggingface/safetensors, "Format").

    Arrays are named by id where one layer is kept, by id/layer where several are. They lie in the
    order of the items, so that an utterance's layers are together.
    """

    name = "store"
    suffix = ".safetensors"
    dtypes = tuple(ITEM_BYTES)

    def check_id(self, utterance_id: str) -> None:
        super().check_id(utterance_id)
        if utterance_id == METADATA:
            raise OutputError(
                f"the id {utterance_id!r} has a meaning in safetensors files; rename it"
            )

    def write(self, folder: Folder, key: ShardKey, items: Sequence[Item]) -> WrittenShard:
        arrays: dict[str, Tensor] = {}
        owners: list[tuple[str, str]] = []
        for utterance, layers in items:
            for layer in self.layers:
                name = utterance.id if len(self.layers) == 1 else f"{utterance.id}/{layer}"
                if name in arrays or name == METADATA:
                    raise OutputError(f"the name {name!r} comes twice; rename the utterance")
                arrays[name] = layers[layer]
                owners.append((utterance.id, layer))
        file_name = key.file(self.suffix)
        offsets: list[int] = []

        def write(temporary: Path) -> None:
            offsets[:] = write_safetensors(temporary, arrays, {"auricle_store": "1"})

        digest = folder.write_whole(file_name, write)
        placements = [
            Placement(utterance_id, layer, file_name, offset)
            for (utterance_id, layer), offset in zip(owners, offsets, strict=True)
        ]
        return WrittenShard(placements, {file_name: digest})


KALDI_METHODS = {"auto": 1, "two-byte": 3, "one-byte": 5}
"""Compression of matrices of a Kaldi store -> `CompressionMethod` in Kaldi's
matrix/compressed-matrix.h: "auto" keeps a byte a value and four quantiles a column, or two bytes a
value of at most `MAX_SHORT_ROWS` rows; the others one scale for all of a matrix."""

MAX_SHORT_ROWS = 8

_KALDI_HEADER = struct.Struct("<ffii")  # minimum, range, rows, columns


def kaldi_bytes(shape: tuple[int, int], compression: str) -> int:
    """Bytes of a compressed matrix (T, D), from its token ("CM ") on."""
    rows, columns = shape
    if compression == "auto" and rows > MAX_SHORT_ROWS:
        return len("CM ") + _KALDI_HEADER.size + 8 * columns + rows * columns
    item_bytes = 1 if compression == "one-byte" else 2
    return len("CM2 ") + _KALDI_HEADER.size + item_bytes * rows * columns


def kaldi_values(content: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Values (T, D) of a compressed matrix (kaldi: matrix/compressed-matrix.cc, `CopyToMat`).

    Raises:
        StoreError: It is not of that shape.
    """
    import numpy as np

    token, _, _ = content[:4].tobytes().partition(b" ")
    start = len(token) + 1 + _KALDI_HEADER.size
    low, span, *found = _KALDI_HEADER.unpack(content[len(token) + 1 : start].tobytes())
    if token not in (b"CM", b"CM2", b"CM3") or tuple(found) != shape:
        raise StoreError(
            f"a compressed matrix begins with {token!r} and the shape {tuple(found)}, expected "
            f"{shape}; run `auricle verify` on the store"
        )
    body = content[start:]
    if token != b"CM":
        codes = body.view("<u2") if token == b"CM2" else body
        scale = np.float32(span / np.iinfo(codes.dtype).max)
        return np.asarray(low + codes.reshape(shape) * scale, np.float32)
    quantiles = low + body[: 8 * shape[1]].view("<u2").reshape(-1, 4) * np.float32(span / 65535)
    codes = body[8 * shape[1] :].reshape(shape[1], shape[0])
    # Bytes 0, 64, 192 and 255 are a column's extremes and quartiles, linear between them.
    columns = [np.interp(c, (0, 64, 192, 255), q) for c, q in zip(codes, quantiles, strict=True)]
    return np.ascontiguousarray(np.stack(columns, axis=1), np.float32)


MAX_MAPS = 64
"""Shards mapped at once by the reader; a map holds no open file, only addresses."""

_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ITEM_BYTES}


class ShardMaps:
    """The arrays of a store's shards. Maps are made on first use, the least used are let go."""

    def __init__(
        self, folder: Folder, *, compression: str | None = None, max_maps: int = MAX_MAPS
    ) -> None:
        self._folder = folder
        self._compression = compression
        self._max_maps = max_maps
        self._maps: OrderedDict[str, NDArray[np.uint8] | None] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_folder", "_compression", "_max_maps")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _maps=OrderedDict(), _lock=threading.Lock())

    def array(self, shard: str, offset: int, shape: tuple[int, int], dtype: str) -> Tensor:
        """The array (T, D) whose values begin at `offset`, in bytes.

        Raises:
            StoreError: The shard is not there or ends before the array does.
        """
        num_bytes = shape[0] * shape[1] * ITEM_BYTES[dtype]
        if num_bytes and self._compression is not None:
            num_bytes = kaldi_bytes(shape, self._compression)
        if num_bytes == 0:
            return torch.empty(shape, dtype=_DTYPES[dtype])
        if offset < 0:
            raise StoreError(
                f"{self._folder.where(shard)} does not say where its arrays lie; read it by the "
                "library of its format"
            )
        try:
            found = self._bytes(shard, offset, num_bytes)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._folder.where(shard)} is not there; run the extraction again, which "
                "writes it again"
            ) from error
        if len(found) != num_bytes:
            raise StoreError(
                f"{self._folder.where(shard)} is cut: {num_bytes - len(found)} bytes of an array "
                "lie past its end; run the extraction again, which writes it again"
            )
        if self._compression is not None:
            return torch.from_numpy(kaldi_values(found.numpy(), shape))
        if offset % ITEM_BYTES[dtype]:
            found = found.clone()  # values that lie askew in memory are not PyTorch's to read
        return found.view(_DTYPES[dtype]).view(shape)

    def _bytes(self, shard: str, offset: int, num_bytes: int) -> Tensor:
        mapped = self._map(shard)
        if mapped is not None:
            return torch.from_numpy(mapped[offset : offset + num_bytes])
        read = bytearray(self._folder.read_range(shard, offset, num_bytes))
        return torch.frombuffer(read, dtype=torch.uint8) if read else torch.empty(0).byte()

    def _map(self, shard: str) -> NDArray[np.uint8] | None:
        with self._lock:
            if shard not in self._maps:
                self._maps[shard] = self._folder.map(shard)
                if len(self._maps) > self._max_maps:
                    self._maps.popitem(last=False)  # tensors that lie in it keep it alive
            self._maps.move_to_end(shard)
            return self._maps[shard]


def verify(folder: Folder) -> list[Damage]:
    """Read all of a store and say what is not as it was written; nothing where all is well.

    Every file of a shard is compared with the size and the sha256 in its part, meta.json with what
    the parts remember of it, plans and index with their checksums, and a closed store's index with
    the number of rows in all parts.

    Raises:
        StoreError: There is no store.
    """
    closed, damages = _meta_damage(folder)
    sizes = shard_sizes(folder)
    num_rows = 0
    keys = part_keys(folder)
    for key, part in zip(keys, read_parts(folder, keys), strict=True):
        if isinstance(part, StoreError):
            damages.append(unreadable(key.part, part, PART_REMEDY))
            continue
        num_rows += part.rows.num_rows
        damage = size_damage(part.files, sizes)
        damages += [damage] if damage else _changed(folder, part.files)
    damages += _plan_damages(folder)
    if closed:
        damages += _index_damage(folder, num_rows if not damages else None)
    return damages


def _meta_damage(folder: Folder) -> tuple[bool, list[Damage]]:
    """Read from meta.json if the store is closed; find the damage of that file."""
    remembered = meta_of_parts(folder)
    try:
        meta = read_meta(folder)
    except StoreError as error:
        return False, [unreadable(META, error, META_REMEDY)]
    if meta is None and remembered is None:
        raise StoreError(f"{folder.location} is not a store: it has no meta.json")
    if meta is None:
        return False, [Damage(META, "is not there", META_REMEDY)]
    if remembered is not None:
        try:
            refuse_difference(folder, remembered, meta)
        except OutputError:
            return False, [Damage(META, f"does not say what {PARTS}/ says", META_REMEDY)]
    return meta.closed, []


def _changed(folder: Folder, files: Mapping[str, FileDigest]) -> list[Damage]:
    return [
        Damage(name, f"has sha256 {found.sha256}, expected {digest.sha256}", CHANGED_REMEDY)
        for name, digest in files.items()
        if (found := folder.digest(name)) != digest
    ]


def _plan_damages(folder: Folder) -> list[Damage]:
    damages = []
    for name in folder.sizes(PLANS):
        try:
            read_checked(folder, name, PLAN_REMEDY)
        except StoreError as error:
            damages.append(unreadable(name, error, PLAN_REMEDY))
    return damages


def _index_damage(folder: Folder, num_rows: int | None) -> list[Damage]:
    """Find the damage of the index, of `num_rows` rows where their number is known."""
    try:
        found = sum(batch.num_rows for batch in index_batches(folder))
    except StoreError as error:
        return [unreadable(INDEX, error, INDEX_REMEDY)]
    if num_rows is not None and found != num_rows:
        reason = f"has {found} rows, but {PARTS}/ has {num_rows}"
        return [Damage(INDEX, reason, INDEX_REMEDY)]
    return []
