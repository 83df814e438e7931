"""Search of the catalogue: models by name, alias, pattern or family, also those of plug-ins."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib.util
import logging
import re
import sys
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from auricle.catalogue.family import FAMILIES, RECORDS, find_family, is_family, plug_in_families
from auricle.catalogue.record import Record
from auricle.errors import PlugInError, UnknownModelError
from auricle.files.atomic import SHA256_DIGITS
from auricle.optional import RECORD_GROUP, PlugIn, find_plug_in, plug_ins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

logger = logging.getLogger(__name__)

BASELINE = "baseline"
"""The family without checkpoints, and a name of s3prl."""

OWN_NAMES = frozenset(name for record in RECORDS for name in record.names)
"""Names that the library's own records have; a plug-in cannot take one over."""

URL_SCHEMES = ("https", "hf")

_REPOSITORY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_BY_NAME = {name: record for record in RECORDS for name in record.names}


class AbsentNames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entry points of s3prl that have no counterpart.

    Attributes:
        title: Their family.
        names: The entry points.
        reason: The cause, or a way that leads to the same; empty where there is none.
    """

    title: str
    names: tuple[str, ...]
    reason: str = ""


class S3prlNames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entry points of `s3prl.hub`, from `s3prl.toml`.

    Attributes:
        packages: The packages, with versions, that have these.
        models: Names and aliases of the catalogue too, of the same checkpoints.
        checkpoints: Entry points that take a checkpoint, by the stem of its family.
        others: Entry points that `find` refuses.
    """

    packages: tuple[str, ...]
    models: tuple[str, ...]
    checkpoints: dict[str, tuple[str, ...]]
    others: tuple[AbsentNames, ...]


@functools.cache
def s3prl_names() -> S3prlNames:
    """The entry points of s3prl, and their counterparts."""
    text = resources.files(__package__).joinpath("s3prl.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), S3prlNames)


def is_name(name: str) -> bool:
    """Return whether the library has a model of that name or alias; plug-ins are not asked."""
    return name in _BY_NAME


def find(name: str) -> Record:
    """The record of a model, by its name or an alias.

    Raises:
        UnknownModelError: No model has that name; the message lists those that are close, or
            says of a name of s3prl which family it is of and what to do instead.
        PlugInError: A plug-in has that name, and is broken.
    """
    record = _BY_NAME.get(name) or plug_in_record(name)
    if record is not None:
        return record
    if is_family(name) and name != BASELINE:
        find_family(name)  # the plug-in that adds it may be broken
        raise UnknownModelError(
            f"{name} is a family without a model of its name: pass one of its checkpoints, "
            f'load("{name}", checkpoint="/path/to/file"), or take a model that `auricle list '
            f"--family {name}` shows"
        )
    _refuse_name_of_s3prl(name)
    raise UnknownModelError(f"no model is called {name!r}{_suggestion(name)}; see `auricle list`")


def _refuse_name_of_s3prl(name: str) -> None:
    """Raise UnknownModelError where s3prl has that name."""
    names = s3prl_names()
    for stem, entries in names.checkpoints.items():
        if name in entries:
            raise UnknownModelError(
                f"{name} of s3prl, of the family {FAMILIES[stem].title}, takes a checkpoint: pass "
                "its path or URL to load, which detects the family, or to the entry point of that "
                "name in torch.hub"
            )
    for absent in names.others:
        if name in absent.names:
            raise UnknownModelError(
                f"{name} of s3prl, of the family {absent.title}, is not here: "
                + (absent.reason or "`auricle list` shows what is, and a plug-in can add it")
            )


def record_named(name: str | None, family: str) -> Record | None:
    """The record of a model by its name or an alias, if it is of that family; else None."""
    if name is None:
        return None
    try:
        record = _BY_NAME.get(name) or plug_in_record(name)
    except PlugInError:
        return None
    return record if record is not None and record.family == family else None


def repository_hint(value: str | Path) -> str:
    """An addition to "does not exist" where `value` may be meant as `owner/name` of a hub."""
    if isinstance(value, Path) and value.is_absolute():
        return ""
    owner, _, name = str(value).partition("/")
    if not (_REPOSITORY_NAME.fullmatch(owner) and _REPOSITORY_NAME.fullmatch(name)):
        return ""
    return f"; a repository of Hugging Face is written hf://{owner}/{name}"


def _suggestion(name: str) -> str:
    lowered = {known.lower(): known for known in (*_BY_NAME, *plug_in_names())}
    close = difflib.get_close_matches(name.lower(), lowered, n=3)
    return f"; close matches: {', '.join(lowered[match] for match in close)}" if close else ""


def list_models(pattern: str = "*", *, family: str | None = None) -> list[str]:
    """Names of the models, by publication date of their papers, then by name; baselines last.

    Models of plug-ins are among them; a plug-in that is broken is left out with a warning.

    Args:
        pattern: A shell pattern (`tera*`, in any case); a model is listed, under its own name,
            when its name or one of its aliases matches.
        family: List this family only.

    Raises:
        UnknownModelError: There is no such family.
    """
    records, problems = select(pattern, family=family)
    for problem in problems:
        logger.warning("%s", problem)
    return [record.name for record in records]


def select(
    pattern: str = "*", *, family: str | None = None
) -> tuple[list[Record], list[PlugInError]]:
    """The records that `list_models` names, and what is wrong with plug-ins that are broken.

    Raises:
        UnknownModelError: There is no such family.
        PlugInError: The plug-in that adds that family is broken.
    """
    if family is not None:
        find_family(family)
    added, problems = plug_in_records()
    families_problems = plug_in_families()[1]
    chosen = [
        record
        for record in (*RECORDS, *added)
        if family in (None, record.family)
        and any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in record.names)
    ]
    chosen.sort(key=lambda record: (not record.released, record.released, record.name))
    # A broken family is reported once, not again for each of its records.
    reported = {str(problem): problem for problem in (*families_problems, *problems)}
    return chosen, list(reported.values())


def list_sizes() -> dict[str, str]:
    """Every published size and the family it is of, by name; those of plug-ins come last.

    A plug-in that is broken is left out with a warning.
    """
    sizes = {name: stem for stem, family in FAMILIES.items() for name in family.sizes}
    families, problems = plug_in_families()
    for family in families:
        sizes.update({name: family.stem for name in family.sizes if name not in sizes})
    for problem in problems:
        logger.warning("%s", problem)
    return sizes


def plug_in_names() -> Collection[str]:
    """Every name that a plug-in claims in the catalogue; imports none of them."""
    return [name for name in plug_ins(RECORD_GROUP) if name not in OWN_NAMES]


def plug_in_record(name: str) -> Record | None:
    """The record that a plug-in adds under a name; None where no plug-in claims it.

    Imports the plug-in of that name alone.

    Raises:
        PlugInError: The plug-in is broken, or several claim the name.
    """
    plug_in = find_plug_in(RECORD_GROUP, name)
    return None if plug_in is None else _checked(plug_in)


def plug_in_records() -> tuple[list[Record], list[PlugInError]]:
    """The records of plug-ins, all of which are imported, and what is wrong with the others."""
    records: dict[str, Record] = {}
    problems = []
    for name, claims in plug_ins(RECORD_GROUP).items():
        try:
            if name in OWN_NAMES:
                raise claims[0].broken(f"the library has a model {name} of its own")
            record = plug_in_record(name)
        except PlugInError as problem:
            problems.append(problem)
        else:
            if record is not None:
                records[record.name] = record
    return list(records.values()), problems


def _checked(plug_in: PlugIn) -> Record:
    """The plug-in's record, once it is sound."""
    record = plug_in.load(Record)
    for fault in _faults(plug_in, record):
        raise plug_in.broken(f"its record {fault}")
    try:
        family = find_family(record.family)
    except UnknownModelError as error:
        raise plug_in.broken(error) from error
    return msgspec.structs.replace(
        record, title=record.title or family.title, paper=record.paper or family.paper
    )


def _faults(plug_in: PlugIn, record: Record) -> Iterator[str]:
    """Faults of a record, to be read after "its record"."""
    if plug_in.name not in record.names:
        yield f"is called {', '.join(map(str, record.names))}, its entry point {plug_in.name}"
    for name in record.names:
        if not isinstance(name, str) or not name.isidentifier():
            yield f"has the name {name!r}, expected letters, digits and underscores"
        elif name in OWN_NAMES:
            yield f"has the name {name}, which a model of the library has"
        elif name not in plug_ins(RECORD_GROUP):
            yield f"has the name {name} without an entry point of that name in {RECORD_GROUP}"
        else:
            owner = find_plug_in(RECORD_GROUP, name)
            if owner is not None and owner.distribution != plug_in.distribution:
                yield f"has the name {name}, which {owner} has"
    if record.family == "baseline":
        yield "is of the family baseline, whose models are the library's own"
    urls = record.urls if record.config_url is None else (*record.urls, record.config_url)
    if not isinstance(record.urls, tuple):
        yield f"has urls={record.urls!r}, expected a tuple"
    elif not all(isinstance(url, str) and urlsplit(url).scheme in URL_SCHEMES for url in urls):
        yield f"has a URL that is neither https: nor hf:, in {urls!r}"
    if record.embedded and (record.urls or record.package == "auricle" or record.sha256 is None):
        yield "is bundled (embedded), so it needs a package of its own, a sha256, and no urls"
    elif record.embedded and importlib.util.find_spec(record.package.partition(".")[0]) is None:
        yield f"is bundled in the package {record.package}, which is not installed"
    digests = ((record.sha256, f"{{{SHA256_DIGITS}}}"), (record.sha256_prefix, "+"))
    for digest, count in digests:
        if digest is not None and not re.fullmatch(f"[0-9a-f]{count}", digest):
            yield f"has the digest {digest!r}, expected lower-case hex of a sha256"
    if record.num_bytes is not None and record.num_bytes < 1:
        yield f"has num_bytes={record.num_bytes}, expected None or a count"
