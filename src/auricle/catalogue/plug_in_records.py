"""Records that plug-ins add to the catalogue, each checked before it is believed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

import msgspec

from auricle.catalogue.family import RECORDS, find_family
from auricle.catalogue.record import Record
from auricle.errors import PlugInError, UnknownModelError
from auricle.plug_ins import RECORD_GROUP, PlugIn, find_plug_in, plug_ins

OWN_NAMES = frozenset(name for record in RECORDS for name in record.names)
"""Names that the library's own records have; a plug-in cannot take one over."""

URL_SCHEMES = ("https", "hf")

SHA256_DIGITS = 64
"""Of a sha256 in hex."""


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
