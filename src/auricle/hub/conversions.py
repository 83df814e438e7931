"""Convert fetched checkpoints once, to the library's own format, which later loads map."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from torch import Tensor

from auricle.catalogue.family import FAMILIES
from auricle.checkpoints.checkpoint import Checkpoint
from auricle.checkpoints.huggingface import is_huggingface_folder
from auricle.checkpoints.options import Configuration
from auricle.checkpoints.reading import native_checkpoint, read_checkpoint
from auricle.errors import CheckpointError, ChecksumError
from auricle.files.atomic import file_sha256, lock_path, pinned_sha256
from auricle.files.safetensors import NativeCheckpoint, is_native, read_native, write_native
from auricle.hub.cache import (
    CACHE_VARIABLE,
    CONVERTER_VERSION,
    Conversion,
    Stamp,
    Wanted,
    cache_folder,
    conversion_key,
    find_conversion,
    is_as_stamped,
    locked_in_cache,
    note_path,
    stamp,
    write_note,
)
from auricle.hub.download import fetch_url
from auricle.hub.huggingface import fetch_snapshot
from auricle.hub.location import WEIGHT_FILES, is_repository_url, without_password
from auricle.info import Provenance
from auricle.models.definition import Config

logger = logging.getLogger(__name__)

WAIT_SECONDS = 600.0
"""Time to wait for another process that converts the same checkpoint."""

KEY = "conversion"
WEIGHT_SUFFIXES = (".safetensors", ".bin")
UNUSED_KEYS = "unused_keys"
VERSION = "converter_version"


def load_once_converted(
    wanted: Wanted, fetch: Callable[[], Fetched], *, refresh: bool = False
) -> Checkpoint:
    """Read a checkpoint by way of its conversion in the cache.

    A valid conversion is mapped into memory, and nothing is fetched. Otherwise the checkpoint is
    fetched, read and converted, by one process while others wait for the same. A file
    that needs no conversion, or does not lie in the cache, is read without one. Where the
    conversion cannot be kept a warning says why.

    Args:
        wanted: The request.
        fetch: Fetches the files; called where there is no valid conversion.
        refresh: Fetch and convert again.

    Returns:
        The checkpoint; its numbers, provenance and unused keys are the same either way.

    Raises:
        CheckpointError: The checkpoint is unsafe, damaged, of another family, or does not fit.
        ChecksumError: Its weights do not have the pinned or the requested digest.
        AuricleError: An error of `fetch`.
    """
    if not refresh and (checkpoint := _converted(wanted)):
        return checkpoint
    fetched = fetch()
    if is_native(fetched.path) or not fetched.path.is_relative_to(cache_folder()):
        return _read(wanted, fetched)
    with ExitStack() as stack:
        try:
            wanted.path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_in_cache(wanted.path, WAIT_SECONDS))
        except OSError as error:
            _warn(wanted, error.strerror or str(error))
            return _stamped(wanted, fetched)[0]
        # Another process may have been first while this one waited.
        if not refresh and (checkpoint := _converted(wanted)):
            return checkpoint
        checkpoint, sources = _stamped(wanted, fetched)
        if checkpoint.family in FAMILIES:  # a plug-in's converter may change at any time
            try:
                _keep(wanted, sources, checkpoint)
            except OSError as error:
                _warn(wanted, error.strerror or str(error))
        return checkpoint


def configuration_sha256(config: Configuration | None) -> str | None:
    """The sha256 of a user's own configuration, a file or its content.

    Raises:
        CheckpointError: There is no such file.
    """
    if config is None:
        return None
    if isinstance(config, argparse.Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        content = json.dumps(config, sort_keys=True, default=str).encode()
    else:
        try:
            content = Path(config).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{config} cannot be read: {error.strerror}") from error
    return hashlib.sha256(content).hexdigest()


def _read(wanted: Wanted, fetched: Fetched) -> Checkpoint:
    return read_checkpoint(
        fetched.path,
        family=wanted.family,
        provenance=fetched.provenance,
        config=fetched.config,
        normalize=wanted.normalize,
        published=fetched.published,
        without_adapters=wanted.without_adapters,
    )


def _warn(wanted: Wanted, reason: str) -> None:
    logger.warning(
        "the conversion of %s is not kept, so the next load converts it again: %s; set %s to a "
        "folder that you may write to and that has space left",
        wanted.label,
        reason,
        CACHE_VARIABLE,
    )


def _converted(wanted: Wanted) -> Checkpoint | None:
    """Read the conversion of a checkpoint; None where there is no valid one."""
    conversion = find_conversion(wanted)
    if conversion is None:
        return None
    try:
        native = read_native(wanted.path)
        checkpoint = native_checkpoint(native, wanted.path, family=wanted.family)
        unused_keys = msgspec.json.decode(native.extra.get(UNUSED_KEYS, ""), type=tuple[str, ...])
    except (CheckpointError, msgspec.DecodeError) as error:
        logger.warning("the conversion of %s is damaged, it is made again: %s", wanted.label, error)
        return None
    if native.extra.get(KEY) != conversion.key:  # another process has just replaced it
        return None
    return dataclasses.replace(checkpoint, unused_keys=unused_keys)


def _stamped(wanted: Wanted, fetched: Fetched) -> tuple[Checkpoint, tuple[Stamp, ...]]:
    """Read the fetched files; returns the checkpoint and the stamps of exactly these files."""
    while True:
        try:
            weights, configs = _source_files(fetched)
            sources = tuple(stamp(path) for path in (*weights, *configs))
        except OSError as error:
            raise CheckpointError(f"{fetched.path} cannot be read: {error}") from error
        for source in sources:
            _check_pinned(source)
        if wanted.sha256 and not sources[0].sha256.startswith(wanted.sha256):
            raise _changed(sources[0], f"expected {wanted.sha256}")
        checkpoint = _read(wanted, fetched)
        if all(map(is_as_stamped, sources)):
            break
    if len(weights) == 1:
        provenance = dataclasses.replace(checkpoint.provenance, sha256=sources[0].sha256)
        checkpoint = dataclasses.replace(checkpoint, provenance=provenance)
    return checkpoint, sources


def _source_files(fetched: Fetched) -> tuple[list[Path], list[Path]]:
    """List the files of the cache that make the encoder: weights, and configurations."""
    path, config = fetched.path, fetched.config
    folder = path if path.is_dir() else path.parent
    weights = [path]
    if path.is_dir():
        usual = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        shards = [file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES]
        weights = usual[:1] or sorted(shards)
    configs = sorted(folder.glob("*.json")) if is_huggingface_folder(folder) else []
    if isinstance(config, str | Path) and Path(config).is_relative_to(cache_folder()):
        configs.append(Path(config))
    return weights, configs


def _check_pinned(source: Stamp) -> None:
    pinned = pinned_sha256(source.full_path)
    if pinned not in (None, source.sha256):
        raise _changed(source, f"but was {pinned} when it was downloaded")


def _changed(source: Stamp, expectation: str) -> ChecksumError:
    return ChecksumError(
        f"the sha256 of {source.full_path} is {source.sha256}, {expectation}; download it again "
        "with refresh=True (on the command line --refresh), or remove the file"
    )


def _keep(wanted: Wanted, sources: tuple[Stamp, ...], checkpoint: Checkpoint) -> None:
    """Write the conversion and, once it is whole, its note; the lock is held.

    Raises:
        OutputError: They cannot be written.
        OSError: Likewise.
    """
    converted = _native(sources, checkpoint)
    # In this order a crash leaves a conversion without a note, never one with another's note.
    note_path(wanted.path).unlink(missing_ok=True)
    _sweep(wanted.path)
    write_native(wanted.path, converted)
    write_note(Conversion(label=wanted.label, sources=sources, file=stamp(wanted.path)))


def _sweep(path: Path) -> None:
    """Remove temporary files of killed writers of a conversion and of its note."""
    for file in (path, note_path(path)):
        for debris in path.parent.glob(f".{file.name}.*"):
            if debris != lock_path(path):
                debris.unlink(missing_ok=True)


def _native(sources: tuple[Stamp, ...], checkpoint: Checkpoint) -> NativeCheckpoint:
    return NativeCheckpoint(
        family=checkpoint.family,
        config=msgspec.json.encode(checkpoint.config).decode(),
        provenance=checkpoint.provenance,
        weights=_unshared(checkpoint.weights),
        extra={
            KEY: conversion_key(sources),
            VERSION: str(CONVERTER_VERSION),
            UNUSED_KEYS: json.dumps(checkpoint.unused_keys),
        },
    )


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights that share memory, which their file cannot."""
    seen: set[int] = set()
    unshared = {}
    for name, weight in weights.items():
        address = weight.untyped_storage().data_ptr()
        unshared[name] = weight.clone() if address in seen else weight
        seen.add(address)
    return unshared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A checkpoint on this machine, a file or the folder of a model, and its origin.

    `config` is its configuration where that is a file of its own, `published` the configuration
    of the size that bare tensors must have.
    """

    path: Path
    provenance: Provenance
    config: Configuration | None = None
    published: Config | None = None


def fetch_location(url: str, *, sha256: str | None = None, refresh: bool = False) -> Fetched:
    """Fetch the checkpoint at a URL (https, http or file, or `hf://owner/name[@revision][/file]`).

    Args:
        url: The URL. A file that came over https or http is kept in the cache and not requested
            again; a branch of a repository is looked up each time.
        sha256: The digest that a single file must have, in hex.
        refresh: Download files again that are in the cache.

    Raises:
        DownloadError: The URL cannot be used, or does not give the file.
        ChecksumError: The file differs from the first download.
    """
    if is_repository_url(url):
        snapshot = fetch_snapshot(url, refresh=refresh)
        digest = None if snapshot.weights is None else _blob_sha256(snapshot.weights)
        return Fetched(
            path=snapshot.path, provenance=Provenance(source_url=snapshot.url, sha256=digest)
        )
    path = fetch_url(url, sha256=sha256, refresh=refresh)
    is_in_place = urlsplit(url).scheme == "file"
    # A `.sha256` of another program beside the user's own file is no proof of the file's content.
    digest = (None if is_in_place else pinned_sha256(path)) or file_sha256(path)
    return Fetched(
        path=path, provenance=Provenance(source_url=without_password(url), sha256=digest)
    )


def _blob_sha256(path: Path) -> str:
    """The sha256 of a file of a repository: the name of its blob, for a large file."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else file_sha256(path)


def load_location(
    url: str,
    family: str | None,
    *,
    name: str | None = None,
    sha256: str | None = None,
    config: Configuration | None = None,
    refresh: bool = False,
    normalize: bool | None = None,
    published: Config | None = None,
    without_adapters: bool = False,
) -> Checkpoint:
    """Read a checkpoint at a URL by way of its conversion in the cache.

    Args:
        url: As `fetch_location` takes it.
        family: The family it must be of; None to take the one that follows from its content.
        name: Name of the encoder, unless the file says its own.
        sha256: The digest that a single file must have, in hex.
        config: As `load` takes it.
        refresh: Fetch and convert again.
        normalize: As `read_checkpoint` takes it.
        published: As `read_checkpoint` takes it.
        without_adapters: As `read_checkpoint` takes it.

    Raises:
        DownloadError: The URL cannot be used, or does not give the file.
        ChecksumError: The file differs from the first download, or has another digest.
        CheckpointError: It cannot be loaded.
    """
    fetched = None
    if is_repository_url(url):  # a branch is looked up each time, so its commit decides
        fetched = fetch_location(url, refresh=refresh)
    wanted = Wanted(
        label=(fetched.provenance.source_url if fetched else None) or without_password(url),
        places=() if fetched else (url,),
        family=family,
        sha256=sha256.lower() if sha256 else None,
        config_sha256=configuration_sha256(config or msgspec.to_builtins(published)),
        normalize=normalize,
        without_adapters=without_adapters,
    )

    def fetch_again() -> Fetched:
        come = fetched or fetch_location(url, sha256=sha256, refresh=refresh)
        return dataclasses.replace(come, config=config, published=published)

    return load_once_converted(wanted, fetch_again, refresh=refresh).named(name)
