"""A record of the catalogue: one published checkpoint, with what is known about it."""

from __future__ import annotations

import msgspec

from auricle.outputs import Paper

DEFAULT_MODEL = "apc_mini"
"""The embedded model that the commands take where none is named: the best of them on phones."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One checkpoint, published or embedded in the library, or one baseline, which needs none.

    Attributes:
        name: What `auricle.load` calls it.
        family: Stem of its family.
        urls: Mirrors of one and the same model, in order of preference: `https:` files, and
            `hf://` repositories in the format of Hugging Face. Empty where no weights were
            published, for an embedded checkpoint and for a baseline.
        aliases: Further names.
        title: What the model is called in print; the family's title unless it is a variant.
        paper: The publication it comes from, the family's unless it has its own; None for a
            baseline.
        size: The published size, one of the family's.
        config_url: Where the configuration is, if that is a file of its own.
        sha256: Digest of the file in hex.
        sha256_prefix: The first digits of the digest, where only those are known.
        training_data: What it was pretrained on.
        licence: What the repository states; None where nothing is stated.
        note: What sets it apart in its family.
        embedded: Whether the weights are in an installed package, in
            `pretrained/<name>.safetensors` of `package`.
        package: The library itself, or a plug-in.
        num_bytes: Size of the file at `urls`, where that is known.
    """

    name: str
    family: str
    urls: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    title: str = ""
    paper: Paper | None = None
    size: str | None = None
    config_url: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    training_data: str | None = None
    licence: str | None = None
    note: str = ""
    embedded: bool = False
    package: str = "auricle"
    num_bytes: int | None = None

    @property
    def released(self) -> str:
        """Publication date (ISO) of the paper, empty for a baseline."""
        return self.paper.date if self.paper else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds this record: its own first, then its aliases."""
        return (self.name, *self.aliases)
