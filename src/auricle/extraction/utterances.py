"""What is extracted one by one: a stretch of audio, under an id."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

Container: TypeAlias = Literal["file", "tar", "dataset", "stream"]
"""Where audio lies: in a file of its own, in a tar archive, in a Hugging Face dataset, in one that
is read as a stream, row after row."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Identity of the audio that was encoded: tells a file that was replaced from one that was not.

    Attributes:
        num_bytes: Size of the audio file: a file of its own, a tar archive's member, a row's.
        mtime_ns: Modification time of the file or archive that holds it, in nanoseconds since
            1970; None where there is none, as of a row of a stream.
        sha256: Digest of those bytes, in hex.
        part_seconds: Length of the part that was asked for; None for all up to the end.
    """

    num_bytes: int
    mtime_ns: int | None
    sha256: str
    part_seconds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A stretch of audio, and the name under which its representation is kept.

    Attributes:
        id: Unique in a store. Relative paths without their suffix, keys of a manifest.
        source: Path of the file, the archive or the dataset's folder; a dataset's name.
        container: What `source` is.
        member: Name of the file in the archive, or "split:row" of the dataset; "" for a file.
        start: Where the stretch begins, in seconds.
        seconds: How long it is; None where nobody has said so, which for a `start` of 0 means
            all of the source.
        channel: Which channel, counted from 0; None for the mean of all.
        spooled: Path of the file in which this run keeps a row of a stream; "" for all else.
        fingerprint: Identity of its audio, once that has been read; it is no part of what an
            utterance is compared by.
    """

    id: str
    source: str
    container: Container = "file"
    member: str = ""
    start: float = 0.0
    seconds: float | None = None
    channel: int | None = None
    spooled: str = ""
    fingerprint: Fingerprint | None = dataclasses.field(default=None, compare=False)

    @property
    def origin(self) -> str:
        """Where the audio comes from, in one text: the source, and the member where it has any."""
        return f"{self.source}:{self.member}" if self.member else self.source
