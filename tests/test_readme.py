"""What the README shows is what the library says."""

from __future__ import annotations

from pathlib import Path

from auricle.cli.listing import markdown_table
from auricle.hub.catalogue import find, list_models

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- models: `auricle list --markdown` -->\n", "<!-- /models -->"


def test_the_table_of_models_is_current() -> None:
    text = README.read_text()
    table = text[text.index(START) + len(START) : text.index(END)]
    current = markdown_table([find(name) for name in list_models()])
    assert table.strip().splitlines() == current, "put in what `auricle list --markdown` prints"
