"""Segments: encoded batches of shards that are not whole yet, flushed to disk and read back.

A segment holds some batches of a planned shard, whole or not at all. Segments are no shards:
readers do not look at their folder, and they are removed once their shard has a part of the index.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from auricle.corpus.utterance import Fingerprint, Utterance
from auricle.errors import StoreError
from auricle.files.safetensors import METADATA, raw_bytes, write_safetensors
from auricle.store.folder import Folder
from auricle.store.layout import PARTIAL, ShardKey, StoreMeta, parse_segment

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

HEADER = "auricle_segment"
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, little-endian."""


Result: TypeAlias = "tuple[Utterance, Mapping[str, Tensor] | str]"
"""An utterance with its arrays (T, D) by layer, or with the reason why there are none."""


class SegmentItem(msgspec.Struct, frozen=True, kw_only=True):
    """Record of an utterance in a segment.

    Attributes:
        batch: Its batch in the plan of the shard, from 0.
        id: The utterance.
        fingerprint: Identity of its audio; None where that could not be read.
        seconds: How long the utterance is, as found by decoding it, or as asked for.
        reason: Why it gave nothing; "" where it gave arrays.
    """

    batch: int
    id: str
    fingerprint: Fingerprint | None
    seconds: float | None = None
    reason: str = ""


class _SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a segment: of which plan and extraction it is, and its records."""

    plan: str
    extraction: str
    sha256: str
    items: tuple[SegmentItem, ...]


class Segments:
    """The segments of a store's shards, which `meta` describes."""

    def __init__(self, folder: Folder, meta: StoreMeta) -> None:
        self._folder = folder
        # The version that encodes, which need not be the one that began the store.
        self._extraction = hashlib.sha256(
            msgspec.json.encode(msgspec.structs.replace(meta, closed=False))
        ).hexdigest()

    def write(
        self, key: ShardKey, plan: str, first_batch: int, batches: Sequence[Sequence[Result]]
    ) -> None:
        """Flush some batches to disk.

        Args:
            key: The shard that they are of.
            plan: Digest of its plan.
            first_batch: Number of the first of them in the plan.
            batches: Results of their utterances.

        Raises:
            OutputError: They cannot be written.
        """
        items = [
            _item(number, utterance, outcome)
            for number, batch in enumerate(batches, start=first_batch)
            for utterance, outcome in batch
        ]
        arrays = {
            f"{index}/{layer}": x
            for index, (_, layers) in enumerate(items)
            for layer, x in layers.items()
        }
        header = _SegmentHeader(
            plan=plan,
            extraction=self._extraction,
            sha256=_digest(items),
            items=tuple(item for item, _ in items),
        )
        metadata = {HEADER: msgspec.json.encode(header).decode()}

        def write(temporary: Path) -> None:
            write_safetensors(temporary, arrays, metadata)

        self._folder.write_whole(key.segment(first_batch, first_batch + len(batches)), write)

    def kept(self, key: ShardKey, plan: str) -> list[tuple[range, tuple[SegmentItem, ...]]]:
        """List the batches of a shard in segments, from its first on without a gap.

        Segments of another plan or extraction do not count.
        """
        found = self._names([key])
        kept: list[tuple[range, tuple[SegmentItem, ...]]] = []
        end = 0
        for batches in sorted(found.values(), key=lambda each: (each.start, -each.stop)):
            if batches.start != end:
                continue
            header = self._header(key.segment(batches.start, batches.stop))
            if header is not None and (header.plan, header.extraction) == (plan, self._extraction):
                kept.append((batches, header.items))
                end = batches.stop
        return kept

    def num_batches(self, key: ShardKey, plan: str) -> int:
        """Number of batches of a shard that lie in segments, from its first on."""
        kept = self.kept(key, plan)
        return kept[-1][0].stop if kept else 0

    def keys(self) -> set[ShardKey]:
        """Shards that have segments."""
        names = self._folder.sizes(PARTIAL)
        return {parsed[0] for name in names if (parsed := parse_segment(name)) is not None}

    def read(
        self, key: ShardKey, plan: str, planned: Mapping[str, Utterance]
    ) -> list[list[Result]]:
        """Read the batches that `num_batches` counts; fewer where a segment has changed since.

        Args:
            key: The shard.
            plan: Digest of its plan.
            planned: Its utterances by id. Names and sizes of arrays are those of the plan.
        """
        results: list[list[Result]] = []
        for batches, items in self.kept(key, plan):
            found = self._arrays(key.segment(batches.start, batches.stop), items)
            if found is None:
                break
            of_batch: dict[int, list[Result]] = {number: [] for number in batches}
            for item, arrays in found:
                utterance = dataclasses.replace(
                    planned[item.id], fingerprint=item.fingerprint, seconds=item.seconds
                )
                of_batch[item.batch].append((utterance, item.reason or arrays))
            results += of_batch.values()
        return results

    def cut(self, key: ShardKey, num_batches: int) -> None:
        """Forget segments of a shard that hold any batch from number `num_batches` on."""
        for name, batches in self._names([key]).items():
            if batches.stop > num_batches:
                self._folder.remove(name)

    def remove(self, keys: Iterable[ShardKey] | None = None) -> None:
        """Remove the segments of shards, which are whole now; None for all."""
        for name in self._names(keys):
            self._folder.remove(name)

    def _names(self, keys: Iterable[ShardKey] | None) -> dict[str, range]:
        """Segments by name, with the batches that they hold, in order."""
        wanted = None if keys is None else set(keys)
        below = PARTIAL
        if wanted is not None and len(wanted) == 1:
            below = f"{PARTIAL}/{next(iter(wanted)).stem}"
        names = {}
        for name in self._folder.sizes(below):
            parsed = parse_segment(name)
            if parsed is not None and (wanted is None or parsed[0] in wanted):
                names[name] = range(parsed[1], parsed[2])
        return names

    def _header(self, name: str) -> _SegmentHeader | None:
        """Read the header of a segment; None where that cannot be read."""
        try:
            size = int.from_bytes(self._folder.read_range(name, 0, LENGTH_BYTES), "little")
            limit = self._folder.sizes(name.rpartition("/")[0]).get(name, 0)
            if not 0 < size <= limit:
                raise ValueError(f"its header has {size} bytes")
            text = self._folder.read_range(name, LENGTH_BYTES, size)
            return msgspec.json.decode(json.loads(text)[METADATA][HEADER], type=_SegmentHeader)
        except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            logger.warning("%s: %s; what it kept is encoded again", self._folder.where(name), error)
            return None

    def _arrays(
        self, name: str, items: Sequence[SegmentItem]
    ) -> list[tuple[SegmentItem, dict[str, Tensor]]] | None:
        """Items with their arrays by layer; None where they are not as they were written."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            with self._folder.open(name) as file:
                arrays = load(file.read())
            found: list[tuple[SegmentItem, dict[str, Tensor]]] = [(item, {}) for item in items]
            for array_name, x in arrays.items():
                index, _, layer = array_name.partition("/")
                found[int(index)][1][layer] = x
            header = self._header(name)
            if header is None or _digest(found) != header.sha256:
                raise StoreError("its contents have changed")
        except (OSError, ValueError, IndexError, StoreError, SafetensorError) as error:
            logger.warning("%s: %s; what it kept is encoded again", self._folder.where(name), error)
            return None
        return found


def _item(
    batch: int, utterance: Utterance, outcome: Mapping[str, Tensor] | str
) -> tuple[SegmentItem, Mapping[str, Tensor]]:
    reason, arrays = (outcome, {}) if isinstance(outcome, str) else ("", outcome)
    item = SegmentItem(
        batch=batch,
        id=utterance.id,
        fingerprint=utterance.fingerprint,
        seconds=utterance.seconds,
        reason=reason,
    )
    return item, arrays


def _digest(items: Sequence[tuple[SegmentItem, Mapping[str, Tensor]]]) -> str:
    """Digest, in hex, of all that a segment holds."""
    digest = hashlib.sha256()
    for item, arrays in items:
        digest.update(msgspec.json.encode(item))
        for layer, x in sorted(arrays.items()):
            digest.update(f"{layer} {x.dtype} {tuple(x.shape)}".encode())
            digest.update(raw_bytes(x).data)
    return digest.hexdigest()
