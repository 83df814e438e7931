"""What every format of shards does."""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from auricle.corpus.utterance import Utterance
from auricle.errors import OutputError
from auricle.extraction.store.folder import FileDigest, Folder
from auricle.extraction.store.layout import ShardKey, StoreMeta
from auricle.optional import optional

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray
    from torch import Tensor

    Item: TypeAlias = tuple[Utterance, Mapping[str, Tensor]]
    """An utterance and what is kept of it: arrays (T, D) on the CPU, by layer."""

IndexBatches: TypeAlias = "Callable[[], Iterator[pyarrow.RecordBatch]]"
"""Gives all rows of the index, sorted by id, as often as it is called."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where an array lies: which utterance and layer, file below the store, offset in bytes."""

    id: str
    layer: str
    file: str
    offset: int


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """What a format wrote: a placement per array in the order of the items, and the files."""

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
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int64")
    package: ClassVar[str | None] = None
    """Optional package that writes it."""

    def __init__(self, meta: StoreMeta) -> None:
        if meta.dtype not in self.dtypes:
            raise OutputError(
                f"{self.name} has no {meta.dtype}; choose one of {', '.join(self.dtypes)}, or "
                "another format"
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

    def finish(self, folder: Folder, batches: IndexBatches) -> None:  # noqa: B027 - most need none
        """Write what the format has besides shards, once the index holds all of them.

        Raises:
            OutputError: It cannot be written.
        """


def values(x: Tensor) -> NDArray[Any]:
    """An array's values in a type that NumPy knows, without a copy where they lie together."""
    return x.detach().contiguous().numpy()


def path_text(path: str) -> str:
    """A path as text that can be written, also where its bytes are no text."""
    return path.encode("utf-8", "backslashreplace").decode()
