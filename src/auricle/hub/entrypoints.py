"""Factories for the entry points of torch.hub, which `hubconf.py` lists one by one."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES

if TYPE_CHECKING:
    import torch

    from auricle.checkpoints.options import Configuration
    from auricle.models.base import Encoder


def named(name: str) -> Callable[..., Encoder]:
    """The entry point that loads a published checkpoint by its name or alias."""

    def entry(
        *,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "cpu",
        refresh: bool = False,
    ) -> Encoder:
        from auricle.hub.loading import load

        return load(name, checkpoint=checkpoint, device=device, refresh=refresh)

    return _titled(
        entry,
        name,
        f"""{_summary(name)}

        Called with a list of waveforms (16 kHz, one dimension each) the encoder returns a list
        of representations, each (frames, dim).

        Args:
            checkpoint: Path of a local copy of the file, instead of the published one.
            device: Where the weights go.
            refresh: Download the published file again, even if it is in the cache.

        Raises:
            DownloadError: The published file cannot be fetched.
            ChecksumError: The file that came is not the published one.
            CheckpointError: The checkpoint is missing, unsafe, damaged, or does not fit.
        """,
    )


def baseline(name: str) -> Callable[..., Encoder]:
    """The entry point of a baseline, which needs no weights."""

    def entry(
        *, config: Mapping[str, Any] | None = None, device: str | torch.device = "cpu"
    ) -> Encoder:
        from auricle.hub.loading import load

        return load(name, config=config, device=device)

    return _titled(
        entry,
        name,
        f"""{_summary(name)}

        Called with a list of waveforms (16 kHz, one dimension each) it returns a list of
        features, each (frames, dim).

        Args:
            config: Options of the front end, such as {{"cmvn": True}}.
            device: Where the features are computed.

        Raises:
            AuricleError: There is no such option, or not with that value.
        """,
    )


def local(family: str) -> Callable[..., Encoder]:
    """The entry point that loads a checkpoint of a family from a local file."""

    def entry(
        ckpt: str | Path,
        *,
        config: Configuration | None = None,
        device: str | torch.device = "cpu",
    ) -> Encoder:
        from auricle.hub.loading import load

        return load(family, checkpoint=ckpt, config=config, device=device)

    return _titled(
        entry,
        f"{family}_local",
        f"""{FAMILIES[family].title} from a local checkpoint.

        Args:
            ckpt: Path of the checkpoint, in the authors' format or the library's own.
            config: Its configuration where the file does not hold one: a path, or what it
                holds; without it the file beside the checkpoint is taken.
            device: Where the weights go.

        Raises:
            CheckpointError: The checkpoint is missing, unsafe, damaged, of another family, does
                not fit, or holds a configuration beside `config`.
        """,
    )


def url(family: str) -> Callable[..., Encoder]:
    """The entry point that loads a checkpoint of a family from a URL."""

    def entry(
        ckpt: str,
        *,
        sha256: str | None = None,
        config: Configuration | None = None,
        device: str | torch.device = "cpu",
        refresh: bool = False,
    ) -> Encoder:
        from auricle.hub.loading import load_location

        encoder = load_location(ckpt, family, sha256=sha256, config=config, refresh=refresh)
        if encoder.provenance.name is None:
            encoder.provenance = dataclasses.replace(encoder.provenance, name=family)
        return encoder.to(device)

    return _titled(
        entry,
        f"{family}_url",
        f"""{FAMILIES[family].title} from a checkpoint at a URL, which is kept in the cache.

        Args:
            ckpt: URL of the checkpoint (https, http or file).
            sha256: The digest that the file must have, in hex; None to trust the first download.
            config: Its configuration where the file does not hold one: a path, or what it
                holds.
            device: Where the weights go.
            refresh: Download and convert the file again, even if it is in the cache.

        Raises:
            DownloadError: The file cannot be fetched.
            ChecksumError: The file that came does not have the digest.
            CheckpointError: The checkpoint is unsafe, damaged, of another family, does not fit,
                or holds a configuration beside `config`.
        """,
    )


def _summary(name: str) -> str:
    """What a name of the catalogue stands for, in a sentence or two."""
    record = search.find(name)
    family = FAMILIES[record.family]
    if family.paper is None:
        return f"The baseline {name}: {record.note}."
    summary = f"{family.title} ({family.paper.url})"
    if record.training_data:
        summary += f", trained on {record.training_data}"
    if record.note:
        summary += f". {record.note[0].upper()}{record.note[1:]}"
    return f"{summary}."


def _titled(entry: Callable[..., Encoder], name: str, doc: str) -> Callable[..., Encoder]:
    """`entry` under the name and with the documentation that `torch.hub.help` shows."""
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = inspect.cleandoc(doc)
    return entry
