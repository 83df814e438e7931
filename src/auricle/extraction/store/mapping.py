"""Arrays out of shards, mapped from disk without a copy."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from auricle.errors import StoreError
from auricle.extraction.store.folder import Folder
from auricle.extraction.store.index import ITEM_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_MAPS = 64
"""Shards mapped at once by the reader; a map holds no open file, only addresses."""

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
}


class ShardMaps:
    """The arrays of a store's shards. Maps are made on first use, the least used are let go."""

    def __init__(self, folder: Folder, *, max_maps: int = MAX_MAPS) -> None:
        self._folder = folder
        self._max_maps = max_maps
        self._maps: OrderedDict[str, NDArray[np.uint8] | None] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_max_maps": self._max_maps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _maps=OrderedDict(), _lock=threading.Lock())

    def array(self, shard: str, offset: int, shape: tuple[int, int], dtype: str) -> Tensor:
        """The array (T, D) whose values begin at `offset`, in bytes.

        Raises:
            StoreError: The shard is not there or ends before the array does.
        """
        num_bytes = shape[0] * shape[1] * ITEM_BYTES[dtype]
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
                "makes it anew"
            ) from error
        if len(found) != num_bytes:
            raise StoreError(
                f"{self._folder.where(shard)} is cut: {num_bytes - len(found)} bytes of an array "
                "lie past its end; run the extraction again, which makes it anew"
            )
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
