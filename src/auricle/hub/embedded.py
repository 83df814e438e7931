"""The encoders that ship with installed packages: where they lie, and that they are whole."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from auricle.catalogue.record import Record
from auricle.errors import ChecksumError
from auricle.hub.digests import file_sha256

FOLDER = "pretrained"


def embedded_path(record: Record) -> Path:
    """Where the weights of an embedded record lie in the package that brings them."""
    folder = resources.files(record.package) / FOLDER
    return Path(str(folder / f"{record.name}.safetensors"))


def whole_embedded_path(record: Record) -> Path:
    """The same, once the file has the digest on record.

    Raises:
        ChecksumError: The file is missing or has changed.
    """
    path = embedded_path(record)
    found = file_sha256(path) if path.is_file() else "no such file"
    if found != record.sha256:
        raise ChecksumError(
            f"{path} is not the {record.name} that ships with {record.package}: its sha256 is "
            f"{found}, expected {record.sha256}; install {record.package} again"
        )
    return path
