"""Layout of a store: names of its files, and meta.json."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from auricle.errors import OutputError, StoreError
from auricle.store.folder import Folder

META = "meta.json"
INDEX = "index.parquet"
ERRORS = "errors.jsonl"
STREAMS = "streams.json"
PLANS, SHARDS, PARTS, DATA, PARTIAL = "plans", "shards", "parts", "data", "partial"

STORE_VERSION = 1

META_REMEDY = "remove it and run the same extraction again, which restores it"

MAY_DIFFER = {"closed", "library_version"}
"""Fields in which a later run into the same store may differ; each part of the index has the
version of the library that wrote it."""


class ShardKey(NamedTuple):
    """A shard's number, and the generation (the run that planned it), both from 0."""

    generation: int
    shard: int

    @property
    def stem(self) -> str:
        return f"{self.generation:05d}-{self.shard:06d}"

    @property
    def part(self) -> str:
        """Name of the shard's part of the index."""
        return f"{PARTS}/{self.stem}.parquet"

    def file(self, suffix: str) -> str:
        """Name of the shard's file; `suffix` begins with its dot."""
        return f"{SHARDS}/{self.stem}{suffix}"

    def segment(self, first_batch: int, end_batch: int) -> str:
        """Name of the file that keeps some batches of the shard until it is whole."""
        return f"{PARTIAL}/{self.stem}/{first_batch:06d}-{end_batch:06d}.safetensors"


def parse_segment(name: str) -> tuple[ShardKey, int, int] | None:
    """The shard and the batches, first and end, that a segment holds; None for another name."""
    found = re.fullmatch(
        rf"{PARTIAL}/(\d{{5,}})-(\d{{6,}})/(\d{{6,}})-(\d{{6,}})\.safetensors", name
    )
    if found is None:
        return None
    return ShardKey(int(found[1]), int(found[2])), int(found[3]), int(found[4])


def parse_stem(stem: str) -> ShardKey | None:
    """The shard that `stem` names; None where it names none."""
    found = re.fullmatch(r"(\d{5,})-(\d{6,})", stem)
    return ShardKey(int(found[1]), int(found[2])) if found else None


def plan_file(generation: int) -> str:
    """Name of a generation's plan."""
    return f"{PLANS}/{generation:05d}.parquet"


def parse_plan_file(name: str) -> int | None:
    """The generation whose plan is called `name`; None where it is no plan's name."""
    found = re.fullmatch(rf"{PLANS}/(\d{{5,}})\.parquet", name)
    return int(found[1]) if found else None


class LayerMeta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One array that is kept of every utterance: its name, its columns, the place of its frames.

    Frame t spans `window_samples` from sample `start_samples + t * hop_samples` on. `hop_samples`
    is None where rows are not frames: after pooling, or of runs of equal units. The other two are
    None there too, and in stores that earlier versions began.
    """

    name: str
    dim: int
    hop_samples: int | None
    window_samples: int | None = None
    start_samples: int | None = None

    @property
    def lasting(self) -> LayerMeta:
        """The part that all versions recorded."""
        return LayerMeta(name=self.name, dim=self.dim, hop_samples=self.hop_samples)


class SelectionMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Record of the selection: how the arrays follow from the encoder's output.

    Attributes:
        layers: Layers of the encoder that were taken.
        weights: Their weights in a sum; None where they are kept apart.
        pool: What made one row of all frames ("mean", "max", "meanstd"); None where nothing did.
        codes: Whether the indices of codebook entries are kept in place of layers.
        units_sha256: Digest of the units that are kept in place of the layer; None for no units.
        deduplicate: Whether runs of equal units are kept as one row, with their durations.
        window_seconds: Length of the windows in which longer audio was encoded; None for whole.
        overlap_seconds: What neighbouring windows had in common.
        final_norm: Layers that the encoder's final norm was applied to: "keep" for the last, as
            its authors do, "strip" for none, "each" for all.
    """

    layers: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    pool: str | None = None
    codes: bool = False
    units_sha256: str | None = None
    deduplicate: bool = False
    window_seconds: float | None = None
    overlap_seconds: float | None = None
    final_norm: str = "keep"


class StoreMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Description of a store (`meta.json`).

    Attributes:
        format: Format of the shards: "store" for the library's own.
        model: Name of the encoder, or path of its checkpoint.
        family: Stem of its family.
        layers: What is kept of every utterance.
        sample_rate: Rate that the hops count in, in Hz.
        dtype: Type of the values: "float32", "float16", "bfloat16", "int16", "int32" or "int64".
        selection: How it was made of the encoder's layers.
        channel: Channel that was taken where the inputs named none; None for the mean of all.
        compression: Kaldi's compression of the arrays: "auto", "two-byte" or "one-byte"; None for
            none.
        short: What happened to audio shorter than the encoder's minimum: "error" or "pad".
        config: Fields of the encoder's configuration that were changed; None for none.
        encoder_dtype: Type that the encoder computed in.
        model_sha256: Digest of the encoder's family, configuration and weights.
        checkpoint_sha256: Digest of the file that the weights came in, where it is known.
        source_url: Where the weights come from.
        licence: Licence of the weights.
        library_version: Version of the library that began the store.
        closed: Whether index.parquet holds all of it.
        version: Version of this layout.
    """

    format: str
    model: str
    family: str
    layers: tuple[LayerMeta, ...]
    sample_rate: int
    dtype: str
    selection: SelectionMeta
    channel: int | None = None
    compression: str | None = None
    short: str = "error"
    config: dict[str, Any] | None = None
    encoder_dtype: str
    model_sha256: str
    library_version: str
    checkpoint_sha256: str | None = None
    source_url: str | None = None
    licence: str | None = None
    closed: bool = False
    version: int = STORE_VERSION


def read_meta(folder: Folder) -> StoreMeta | None:
    """Read meta.json of a store; None where there is none.

    Raises:
        StoreError: meta.json cannot be understood.
    """
    try:
        with folder.open(META) as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        meta = msgspec.json.decode(text, type=StoreMeta)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{folder.where(META)} does not describe a store: {error}; {META_REMEDY}"
        ) from error
    if meta.version != STORE_VERSION:
        raise StoreError(
            f"{folder.where(META)} is of version {meta.version}, expected {STORE_VERSION}; read "
            f"it with auricle {meta.library_version}"
        )
    return meta


def write_meta(folder: Folder, meta: StoreMeta) -> None:
    """Write meta.json whole.

    Raises:
        OutputError: It cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"

    def write(temporary: Path) -> None:
        temporary.write_bytes(text)

    folder.write_whole(META, write)


def refuse_difference(folder: Folder, found: StoreMeta, wanted: StoreMeta) -> None:
    """Raise OutputError where a run does not give what a store holds already."""
    for name, old, new in _differences(found, wanted):
        raise OutputError(
            f"{folder.location} holds another extraction: its {name} is {_shown(old)}, this "
            f"run's is {_shown(new)}; take another folder, or give the same arguments as then"
        )


def _differences(found: StoreMeta, wanted: StoreMeta) -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, with both values; first those that decide others."""
    if found.model != wanted.model:
        yield "model", found.model, wanted.model
    for name in found.selection.__struct_fields__:
        old, new = getattr(found.selection, name), getattr(wanted.selection, name)
        if old != new:
            yield f"selection.{name}", old, new
    for name in found.__struct_fields__:
        old, new = getattr(found, name), getattr(wanted, name)
        if name == "config" and found.model_sha256 == wanted.model_sha256:
            continue  # earlier versions recorded no changes
        if name == "layers":
            old, new = (tuple(layer.lasting for layer in layers) for layers in (old, new))
        if name not in MAY_DIFFER and old != new:
            yield name, old, new


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


MAX_COMPONENT_BYTES = 180
"""File systems take names of 255 bytes; suffixes and temporary names need some of them."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|%]')


def file_stem(utterance_id: str, suffix: str = "") -> str:
    """An id as a relative path without its suffix; slashes go on making folders.

    What is not allowed in names somewhere, would leave the folder, or would be hidden is
    percent-encoded; an empty component becomes "%". Folders never end in `suffix`, so that none
    is in the way of a file.
    """
    *folders, last = utterance_id.split("/")
    parts = [component(folder) for folder in folders]
    if suffix:
        parts = [_without_suffix(part, suffix) for part in parts]
    return "/".join([*parts, component(last)])


def component(text: str, *, also: str = "") -> str:
    """Text as one component of a path; the characters of `also` are percent-encoded too."""
    if not text:
        return "%"
    encoded = _UNSAFE.sub(_percent, text)
    for character in "/" + also:
        encoded = encoded.replace(character, f"%{ord(character):02X}")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if encoded.endswith((".", " ")):
        encoded = f"{encoded[:-1]}%{ord(encoded[-1]):02X}"
    return _shortened(encoded, text)


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _shortened(encoded: str, text: str) -> str:
    """A name that is too long ends in a digest of what it stands for."""
    as_bytes = encoded.encode()
    if len(as_bytes) <= MAX_COMPONENT_BYTES:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    kept = as_bytes[: MAX_COMPONENT_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{kept}%{digest}"


def _without_suffix(part: str, suffix: str) -> str:
    if not part.endswith(suffix):
        return part
    return f"{part.removesuffix(suffix)}%2E{suffix[1:]}"
