"""Write hubconf.py: an entry point of torch.hub for each model of the catalogue and each family.

`python tools/hub_entries.py` writes it; with `--check` it writes nothing and exits with 1 where the
file is not what would be written.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from auricle.catalogue.family import FAMILIES, RECORDS
from auricle.catalogue.record import Record
from auricle.catalogue.search import s3prl_names

PATH = Path(__file__).resolve().parents[1] / "hubconf.py"
TOOL = "python tools/hub_entries.py"
BASELINE = "baseline"
WIDTH = 100

HEAD = f'''\
"""Entry points for torch.hub: `torch.hub.load(<this repository>, <name>)`.

Written by `{TOOL}`, not by hand.
"""

# ruff: noqa: N816 - the long names are the authors' own

from __future__ import annotations

import importlib.util
import pathlib
import sys
import typing

if importlib.util.find_spec("auricle") is None:  # not installed: use the code beside this file
    sys.path.append(str(pathlib.Path(__file__).resolve().parent / "src"))

if typing.TYPE_CHECKING:
    from auricle import Encoder as _Encoder

dependencies = [
    "filelock",
    "httpx",
    "huggingface_hub",
    "msgspec",
    "numpy",
    "platformdirs",
    "safetensors",
    "soundfile",
    "soxr",
    "torch",
    "tqdm",
]


def _load(
    name: str, *, checkpoint: str | pathlib.Path | None = None, **options: typing.Any
) -> _Encoder:
    import auricle
    from auricle.s3prl.hub import OPTIONS, load_options

    chosen = load_options(name, options, ("refresh", "family", "dtype", *OPTIONS))
    return auricle.load(name, checkpoint=checkpoint, **chosen)


def _load_url(url: str, family: str, **options: typing.Any) -> _Encoder:
    from auricle.hub.conversions import load_location
    from auricle.hub.load import usable_device
    from auricle.s3prl.hub import load_options

    known = ("config", "device", "refresh", "sha256")
    chosen = load_options(f"{{family}}_url", options, known)
    device = usable_device(chosen.pop("device", "auto"))
    return load_location(url, family, name=family, **chosen).build().to(device)


class _AnyName(str):
    """A private name that equals every public one.

    torch.hub looks for a name in `dir` before it gets it: by this one it comes to `__getattr__`
    with names that are no entry points too, and lists none of them.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        is_public = isinstance(other, str) and not other.startswith("_")
        return is_public or str.__eq__(self, other) is True


_any_name = _AnyName("_any_name")


def __dir__() -> list[str]:
    return [*globals(), _any_name]


def __getattr__(name: str) -> typing.Any:
    """Raise UnknownModelError with what is known of a name; models of plug-ins have no entry."""
    if not name.startswith("_"):
        from auricle.catalogue.search import find

        find(name)
    raise AttributeError(f"hubconf.py has no entry point {{name!r}}")
'''

OPTIONS = "Options are those of `auricle.load`."
LOCAL = f"The file is in the authors' format or the library's own. {OPTIONS}"
URL = (
    "The file is kept in the cache. Options: sha256 (its digest in hex), config, device, refresh, "
    "as of `auricle.load`."
)


CUSTOM = f"Paths, `https:` and `hf://` addresses are read. {OPTIONS}"


def expected() -> str:
    """The file as it should be."""
    return "\n\n".join([HEAD, *_entries()])


def _entries() -> Iterator[str]:
    for stem, family in FAMILIES.items():
        yield from (_record_entry(record) for record in RECORDS if record.family == stem)
        if stem != BASELINE:
            title = f"Load a checkpoint of {family.title} from"
            body = f'return _load("{stem}", checkpoint=ckpt, **options)'
            yield _function(f"{stem}_local", f"{title} a file.", LOCAL, body, "ckpt: str, ")
            body = f'return _load_url(ckpt, "{stem}", **options)'
            yield _function(f"{stem}_url", f"{title} a URL.", URL, body, "ckpt: str, ")
            yield from _entries_of_s3prl(stem)


def _entries_of_s3prl(stem: str) -> Iterator[str]:
    """Further entry points of s3prl that take a checkpoint of a family."""
    for name in s3prl_names().checkpoints.get(stem, ()):
        prefix, _, kind = name.rpartition("_")
        if kind == "custom":
            summary = f"Load a checkpoint of {FAMILIES[stem].title} from a file or an address."
            body = f'return _load("{stem}", checkpoint=ckpt, **options)'
            yield _function(name, summary, CUSTOM, body, "ckpt: str, ")
        elif prefix != stem:
            yield f"{name} = {stem}_{kind}\n"


def _record_entry(record: Record) -> str:
    body = f'return _load("{record.name}", **options)'
    entry = _function(record.name, _summary(record), OPTIONS, body)
    aliases = "".join(f"{alias} = {record.name}\n" for alias in record.aliases)
    return f"{entry}\n\n{aliases}" if aliases else entry


def _summary(record: Record) -> str:
    """What a model is, in a sentence or two."""
    if record.paper is None:
        return f"Load the baseline {record.name}: {record.note}."
    summary = f"Load {record.title} ({record.paper.url})"
    if record.training_data:
        summary += f", trained on {record.training_data}"
    if record.note:
        summary += f". {record.note[0].upper()}{record.note[1:]}"
    return f"{summary}."


def _function(name: str, summary: str, options: str, body: str, arguments: str = "") -> str:
    assert not set(summary) & set('\\"'), f"{name}: the text would need escapes"
    doc = textwrap.indent(textwrap.fill(f'"""{summary} {options}"""', WIDTH - 4), "    ")
    signature = f"def {name}({arguments}**options: typing.Any) -> _Encoder:"
    return f"{signature}\n{doc}\n    {body}\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    if not parser.parse_args(argv).check:
        PATH.write_text(expected(), encoding="utf-8")
    elif expected() != PATH.read_text(encoding="utf-8"):
        raise SystemExit(f"{PATH.name} is not current; run {TOOL}")


if __name__ == "__main__":
    main()
