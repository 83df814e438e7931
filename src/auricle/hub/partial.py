"""Files that are not whole yet: what is there, and whether it may be continued."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What a partial file is the beginning of.

    `validator` is what the server calls this version of the file (a strong ETag or a date of
    modification), `num_bytes` the size of the whole, None where the server did not tell.
    """

    url: str
    validator: str
    num_bytes: int | None


class PartialFile:
    """A `.part` file beside its destination, with a note of what it is the beginning of.

    Nothing ever looks for these names when it wants the whole file.
    """

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(f"{destination.name}.part")
        self._note = destination.with_name(f"{destination.name}.part.json")

    @property
    def num_bytes(self) -> int:
        """Bytes there are so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self, url: str) -> Origin | None:
        """What there is the beginning of; None where it cannot be continued from `url`."""
        if self.num_bytes == 0:
            return None
        try:
            origin = Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # no note, or half a one
            return None
        return origin if origin.url == url else None

    def restart(self, origin: Origin | None) -> None:
        """Make the file empty, to be filled from `origin` (None: it cannot be continued)."""
        self._note.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if origin is not None:
            note = json.dumps(dataclasses.asdict(origin))
            self._note.write_text(note, encoding="utf-8")

    def discard(self) -> None:
        """Remove the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def promote(self, destination: Path) -> None:
        """Let the file, now whole, take the place of `destination` in one step."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        self._note.unlink(missing_ok=True)
        if os.name == "posix":  # the new name is on disk only once its folder is
            folder = os.open(destination.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
