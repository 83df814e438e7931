"""Tables that a tool writes into a page, each between two marks that name it and the tool."""

from __future__ import annotations

from collections.abc import Mapping


def with_contents(page: str, contents: Mapping[str, str], tool: str) -> str:
    """Replace the contents between the marks of a page.

    Args:
        page: The page's text, with `<!-- NAME: TOOL in backticks -->` and `<!-- /NAME -->` on
            lines of their own for every name.
        contents: Text between the marks, by name.
        tool: The command that writes it, as in the marks.

    Raises:
        SystemExit: The page lacks a mark.
    """
    for name, content in contents.items():
        start, end = f"<!-- {name}: `{tool}` -->\n", f"\n<!-- /{name} -->"
        head, found_start, rest = page.partition(start)
        _, found_end, tail = rest.partition(end)
        if not found_start or not found_end:
            raise SystemExit(f"error: the page has no place between {start.strip()} and its end")
        page = f"{head}{start}{content}{end}{tail}"
    return page
