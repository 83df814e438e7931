"""Write the cards of the embedded encoders, in docs/models/, and their part of the README.

`python tools/model_cards.py` writes pages and pictures; with `--check` it writes nothing and
exits with 1 where a page is not what would be written, or a picture is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from card_index import index, readme_part
from card_pages import page
from card_sources import Sources, read_sources

from auricle.errors import AuricleError
from auricle.training.monitoring import save_curves

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- minis: `make cards` -->\n", "<!-- /minis -->"


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> None:
    """Write the cards, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not current")
    arguments = parser.parse_args(argv)
    try:
        sources = read_sources(cards_folder(root))
        if arguments.check:
            stale = [str(path.relative_to(root)) for path in differences(sources, root)]
            if stale:
                raise SystemExit(f"not current: {', '.join(stale)}; run `make cards`")
            return
        for path in write(sources, root):
            print(f"wrote {path.relative_to(root)}")  # noqa: T201 - a tool for the command line
    except AuricleError as error:
        raise SystemExit(f"error: {error}") from error


def cards_folder(root: Path) -> Path:
    """Folder of the cards and of their sources."""
    return root / "docs" / "models"


def texts(sources: Sources, root: Path) -> dict[Path, str]:
    """Every page as it should be, the README whole."""
    folder = cards_folder(root)
    readme = root / "README.md"
    pages = {readme: _with_part(readme, readme_part(sources))}
    if sources.minis:
        pages[folder / "README.md"] = index(sources)
    return pages | {folder / f"{mini.name}.md": page(mini, sources) for mini in sources.minis}


def pictures(sources: Sources, root: Path) -> list[Path]:
    """Every picture that the pages show and this tool draws."""
    return [cards_folder(root) / f"{mini.name}.png" for mini in sources.minis]


def differences(sources: Sources, root: Path) -> list[Path]:
    """Pages that are missing, of no encoder or not as they should be, and missing pictures."""
    wanted = texts(sources, root)
    stale = [path for path, text in wanted.items() if _read(path) != text]
    missing = [path for path in pictures(sources, root) if not path.is_file()]
    return [*stale, *missing, *_stray(wanted, pictures(sources, root), root)]


def write(sources: Sources, root: Path) -> Iterator[Path]:
    """Write pages and pictures and remove those of no encoder; gives the paths as it goes."""
    wanted = texts(sources, root)
    for path in _stray(wanted, pictures(sources, root), root):
        path.unlink()
    for mini, path in zip(sources.minis, pictures(sources, root), strict=True):
        save_curves(mini.name, mini.metrics, path)
        yield path
    for path, text in wanted.items():
        if _read(path) != text:
            path.write_text(text, encoding="utf-8")
            yield path


def _stray(wanted: dict[Path, str], drawn: Sequence[Path], root: Path) -> list[Path]:
    found = [path for path in cards_folder(root).glob("*_mini.*") if path.is_file()]
    return sorted(set(found) - set(wanted) - set(drawn))


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _with_part(readme: Path, part: str) -> str:
    """The README with `part` between the markers."""
    text = readme.read_text(encoding="utf-8")
    if START not in text or END not in text:
        raise AuricleError(f"{readme} lacks the markers {START.strip()} and {END}")
    before, _, rest = text.partition(START)
    return before + START + part + END + rest.partition(END)[2]


if __name__ == "__main__":
    main()
