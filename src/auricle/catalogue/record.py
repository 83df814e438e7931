"""A record of the catalogue: one published checkpoint, with what is known about it."""

from __future__ import annotations

import re

import msgspec

from auricle.info import Paper

DEFAULT_MODEL = "apc_mini"
"""The embedded model that the commands take where none is named: the best of them on phones."""


TEXTLESSLIB = "stated by its authors, in facebookresearch/textlesslib"
PUBLIC_CODE = "seen in public code, not stated by its authors"


_NON_COMMERCIAL = re.compile(
    r"\bNC\b|(?i:\bnon-? ?commercial|\b(?:not for|no) commercial"
    r"|\b(?:research|academic)(?: use| purposes?)?[- ]only|\bonly for (?:research|academic))"
)
"""Words of licences that forbid commercial use: CC BY-NC and its relatives, and in prose."""


def is_non_commercial(licence: str | None) -> bool:
    """True if the words of a licence forbid commercial use; False where it is not known."""
    return licence is not None and _NON_COMMERCIAL.search(licence) is not None


class StatedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Digest and size of a published file as somebody states them, who need not be its author.

    No file is refused for it: where a download differs from all that is stated of it, a warning
    says so.

    Attributes:
        place: Its URL, `hf://owner/name/file` for one of a repository, or where it was seen.
        source: The one who states it.
        sha256: The whole digest in hex.
        num_bytes: Its size.
        commit: The beginning of the repository's commit that this is stated of.
    """

    place: str
    source: str = PUBLIC_CODE
    sha256: str | None = None
    num_bytes: int | None = None
    commit: str | None = None


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
        sha256: Digest of the file in hex, as its authors state it: another file is refused.
        sha256_prefix: The first digits of the digest, where only those are known.
        training_data: What it was pretrained on.
        licence: What the repository states; None where nothing is stated. `is_non_commercial`
            goes by its words.
        note: What sets it apart in its family.
        embedded: Whether the weights are in an installed package, in
            `pretrained/<name>.safetensors` of `package`.
        package: The library itself, or a plug-in.
        num_bytes: Size of the file at `urls`, where that is known.
        normalize: Whether the authors' code normalises waveforms to zero mean and unit variance.
            It holds by this name whatever the preprocessor of a copy says; None where the file
            decides. They are those of torchaudio 2.9.0, whose bundles are made of the authors'
            files, of the configuration in data2vec's file and in the repository of ContentVec,
            and of DistilHuBERT's code.
        stated: Digests and sizes that others state of its files.
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
    normalize: bool | None = None
    stated: tuple[StatedFile, ...] = ()

    @property
    def released(self) -> str:
        """Publication date (ISO) of the paper, empty for a baseline."""
        return self.paper.date if self.paper else ""

    @property
    def is_non_commercial(self) -> bool:
        """True if the licence of the weights forbids commercial use."""
        return is_non_commercial(self.licence)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds this record: its own first, then its aliases."""
        return (self.name, *self.aliases)
