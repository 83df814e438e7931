"""Write the tables of encoders: docs/encoders.md with every name, the README with a row a family.

docs/from-s3prl.md gets the entry points of s3prl and their counterparts.

`python tools/encoder_list.py` writes them; with `--check` it writes nothing and exits with 1 where
a page does not have what would be written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from page_marks import with_contents
from which_model import encoders

from auricle.catalogue.family import FAMILIES
from auricle.catalogue.record import Record
from auricle.catalogue.search import BASELINE, find, list_models, s3prl_names
from auricle.hub.location import availabilities
from auricle.info import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "encoders.md"
S3PRL_PAGE = ROOT / "docs" / "from-s3prl.md"
TOOL = "python tools/encoder_list.py"

HEADER = "| names | parameters | paper | pretraining data | weights | licence |"
RULE = "|---|---:|---|---|---|---|"
UNKNOWN = "not known"

MAX_NAME = 40
"""Longer names, those of s3prl, are on its own page."""

SHOWN = 5
"""Names of published models in a row of the README; docs/encoders.md has all."""


def family_table() -> str:
    """A row for each family with weights, in the order of their papers; the baselines last."""
    lines = [
        "| family | paper | published models | bundled (smaller) | dim | layers | frames/s |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    stems = dict.fromkeys(find(name).family for name in list_models())
    lines += [_row(stem, FAMILIES[stem].records) for stem in stems]
    return "\n".join(lines)


def _row(stem: str, records: Sequence[Record]) -> str:
    family = FAMILIES[stem]
    infos = [encoder.info for of, _, encoder in encoders() if of == stem]
    published = [_name(record) for record in records if record.urls]
    embedded = [_name(record) for record in records if record.embedded]
    if stem == BASELINE:
        embedded = [_name(record) for record in records]
    more = f" and {len(published) - SHOWN} more" if len(published) > SHOWN else ""
    cells = (
        family.title,
        f"[{family.paper.arxiv}]({family.paper.url})" if family.paper else "-",
        ", ".join(published[:SHOWN]) + more or "-",
        ", ".join(embedded) or "-",
        _span(info.dims[info.default_layer] for info in infos),
        _span(len(info.layers) for info in infos),
        _span(SAMPLE_RATE // info.hop_samples for info in infos),
    )
    return f"| {' | '.join(cells)} |"


def _name(record: Record) -> str:
    """The shortest name that finds a record."""
    return f"`{min(record.names, key=len)}`"


def _span(values: Iterable[int]) -> str:
    """All of a few different numbers, or the least and the greatest of many."""
    numbers = sorted(set(values))
    if len(numbers) <= 2:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} to {numbers[-1]}"


def formats_table() -> str:
    """A row for each family: what it reads, and the formats of its files."""
    lines = [
        "| family | stem | input | original formats | authors' code |",
        "|---|---|---|---|---|",
    ]
    for stem in _by_family():
        family = FAMILIES[stem]
        repository = "-"
        if family.repository is not None:
            short = family.repository.removeprefix("https://github.com/")
            repository = f"[{short}]({family.repository})"
        cells = (
            f"[{family.title}](#{stem})",
            f"`{stem}`",
            family.input,
            _code(family.formats),
            repository,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def model_tables() -> str:
    """A table for each family, with a row for each of its models."""
    lines: list[str] = []
    for stem, records in _by_family().items():
        lines += ["", f"### {FAMILIES[stem].title} {{ #{stem} }}", "", HEADER, RULE]
        lines += [_model_row(record) for record in records]
    return "\n".join(lines[1:])


def _by_family() -> dict[str, list[Record]]:
    """Models of each family, both in the order of papers; baselines last."""
    families: dict[str, list[Record]] = {}
    for record in map(find, list_models()):
        families.setdefault(record.family, []).append(record)
    return families


def _model_row(record: Record) -> str:
    (state,) = availabilities([record], look_into_cache=False)
    size = FAMILIES[record.family].sizes.get(record.size or "")
    licence = record.licence or UNKNOWN
    if record.is_non_commercial:
        licence = f"**not for commercial use:** {licence}"
    if record.paper is None:
        published, licence, data = "-", "-", "-"
    else:
        variant = "" if record.title == FAMILIES[record.family].title else f"{record.title}, "
        published = f"[{variant}{record.released}]({record.paper.url})"
        data = record.training_data or UNKNOWN
    cells = (
        _code(name for name in record.names if len(name) <= MAX_NAME),
        _millions(size.parameters) if size else "-",
        published,
        data,
        state.value,
        licence,
    )
    return f"| {' | '.join(cells)} |"


def _millions(count: int) -> str:
    """A count of parameters in millions, to three digits."""
    millions = count / 1e6
    return f"{millions:,.0f} M" if millions >= 100 else f"{millions:.3g} M"


def s3prl_tables() -> str:
    """The entry points of s3prl: a row for each family here, and for each other one."""
    names = s3prl_names()
    here, taken = len(names.models), sum(map(len, names.checkpoints.values()))
    absent = sum(len(other.names) for other in names.others)
    lines = [
        f"{' and '.join(names.packages)} have the same {here + taken + absent} entry points in",
        f"`s3prl.hub`: {here} are names here, {taken} take a checkpoint, {absent} are refused.",
        "",
        "| family | the same checkpoints by the same names | take a checkpoint, in torch.hub |",
        "|---|---|---|",
    ]
    for stem, family in FAMILIES.items():
        shared, taking = _shared_names(stem), names.checkpoints.get(stem, ())
        if shared or taking:
            lines.append(f"| {family.title} | {_code(shared)} | {_code(taking)} |")
    lines += ["", "| not here | names of s3prl | why, or what to do |", "|---|---|---|"]
    for other in names.others:
        lines.append(f"| {other.title} | {_code(other.names)} | {other.reason or '-'} |")
    return "\n".join(lines)


def _shared_names(stem: str) -> list[str]:
    """Names of s3prl by which models of a family are found."""
    return [name for name in s3prl_names().models if find(name).family == stem]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


def expected() -> dict[Path, str]:
    """The pages as they should be."""
    contents = {
        README: {"families": family_table()},
        PAGE: {"formats": formats_table(), "models": model_tables()},
        S3PRL_PAGE: {"names": s3prl_tables()},
    }
    return {
        path: with_contents(path.read_text(encoding="utf-8"), tables, TOOL)
        for path, tables in contents.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    arguments = parser.parse_args(argv)
    for path, text in expected().items():
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
        elif text != path.read_text(encoding="utf-8"):
            raise SystemExit(f"{path.relative_to(ROOT)} is not current; run {TOOL}")


if __name__ == "__main__":
    main()
