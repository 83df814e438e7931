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
from auricle.cli.listing import markdown_table
from auricle.geometry import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "encoders.md"
S3PRL_PAGE = ROOT / "docs" / "from-s3prl.md"
TOOL = "python tools/encoder_list.py"

SHOWN = 5
"""Names of published models in a row of the README; docs/encoders.md has all."""


def family_table() -> str:
    """A row for each family with weights, in the order of their papers; the baselines last."""
    lines = [
        "| family | paper | published models | bundled (smaller) | dim | layers | frames/s |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    records = [find(name) for name in list_models()]
    stems = dict.fromkeys(record.family for record in records)
    lines += [_row(stem, [record for record in records if record.family == stem]) for stem in stems]
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
    everything = "\n".join(markdown_table([find(name) for name in list_models()]))
    contents = {
        README: {"families": family_table()},
        PAGE: {"models": everything},
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
