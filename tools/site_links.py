"""Additions of the documentation site to docs/: pages of the root, and targets of links.

A hook of MkDocs. In the repository a page may link any file (`../examples/x.py`). On the site such
a link goes to the repository's address, where mkdocs.yml has one (`repo_url`), and else to a copy
of the file, which the site brings along under `source/`. CONTRIBUTING.md and CHANGELOG.md are pages
of the site. A link to what does not exist is a warning, which `mkdocs build --strict` fails on.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.site_links")

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
BRANCH = "main"

ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""File of the root -> page of the site."""

INSTEAD = {**ROOT_PAGES, "README.md": "index.md"}
"""File of the root -> page of the site that links to it go to."""

COPIES = "source"
"""Folder of the site for files that are linked and lie outside docs/."""

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
LINK = re.compile(r"(?P<head>\]\(\s*<?|^ {0,3}\[[^\]]+\]:\s*<?)(?P<target>[^)\s>]+)")
INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//|/|#", re.IGNORECASE)
"""Beginnings of targets that are no relative paths."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root and, without an address, copies of what is linked."""
    from mkdocs.structure.files import File

    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    if config.repo_url:
        return files
    for file in files.documentation_pages():
        for target in linked_outside(file.content_string, source_of(file.src_uri)):
            copy = f"{COPIES}/{target}"
            if (ROOT / target).is_file() and files.get_file_from_path(copy) is None:
                files.append(File.generated(config, copy, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links outside led to where the site has what they mean."""

    def complain(message: str) -> None:
        logger.warning("%s: %s", page.file.src_uri, message)

    return rewritten(markdown, page.file.src_uri, config.repo_url, complain)


def source_of(page: str) -> str:
    """The file, from the root, that a page of the site is made of."""
    by_page = {page: name for name, page in ROOT_PAGES.items()}
    return by_page.get(page, f"{DOCS}/{page}")


def rewritten(
    markdown: str, page: str, repository: str | None, complain: Callable[[str], None]
) -> str:
    """A page's text with its links as the site has them.

    Args:
        markdown: The text.
        page: The page's path below docs/.
        repository: Address of the repository; None where there is none.
        complain: Called with the problem of a broken link, which stays unchanged.
    """
    source = source_of(page)

    def led(match: re.Match[str]) -> str:
        path, mark, anchor = match["target"].partition("#")
        target = resolved(path, source)
        if target is None or (source.startswith(f"{DOCS}/") and _is_below_docs(target)):
            return match[0]  # MkDocs itself looks after links inside docs/
        place = _place(target, page, repository)
        if place is None:
            complain(f"the link {match['target']!r} leads to {_problem(target)}")
            return match[0]
        return f"{match['head']}{place}{mark}{anchor}"

    return _with_links(markdown, led)


def linked_outside(markdown: str, source: str) -> Iterator[str]:
    """Files, from the root, that a page links and that are neither in docs/ nor pages."""
    found = []

    def collect(match: re.Match[str]) -> str:
        found.append(resolved(match["target"].partition("#")[0], source))
        return match[0]

    _with_links(markdown, collect)
    for target in found:
        if target is not None and not _is_below_docs(target) and target not in INSTEAD:
            yield target


def resolved(path: str, source: str) -> str | None:
    """A relative target as a path from the root; None for what is no relative path.

    What climbs above the root keeps its leading `..`.
    """
    if not path or SCHEME.match(path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(path)))


def _place(target: str, page: str, repository: str | None) -> str | None:
    """Path in the site of the file `target` of the repository; None if it is not in the site."""
    full = ROOT / target
    if target.startswith("..") or not full.exists():
        return None
    if _is_below_docs(target):
        goal = target.removeprefix(f"{DOCS}/")
    elif target in INSTEAD:
        goal = INSTEAD[target]
    elif repository:
        kind = "tree" if full.is_dir() else "blob"
        return f"{repository.rstrip('/')}/{kind}/{BRANCH}/{quote(target)}"
    elif full.is_dir():
        return None
    else:
        goal = f"{COPIES}/{target}"
    return quote(os.path.relpath(goal, posixpath.dirname(page) or "."))


def _problem(target: str) -> str:
    if (ROOT / target).is_dir() and not target.startswith(".."):
        return f"the folder {target}, which the site cannot show: link a file, or set repo_url"
    return f"{target}, which does not exist"


def _is_below_docs(target: str) -> bool:
    return target == DOCS or target.startswith(f"{DOCS}/")


def _with_links(markdown: str, change: Callable[[re.Match[str]], str]) -> str:
    """The text with `change` made to every link that is not in code."""
    lines = []
    fence = ""
    for line in markdown.splitlines(keepends=True):
        opening = FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif opening:
            fence = opening[1]
        else:
            line = _change_line(line, change)
        lines.append(line)
    return "".join(lines)


def _change_line(line: str, change: Callable[[re.Match[str]], str]) -> str:
    """One line with its links changed; code in it is hidden meanwhile, a link's text stays."""
    codes = [match.span() for match in INLINE_CODE.finditer(line)]

    def led(match: re.Match[str]) -> str:
        start = match.start("target")
        is_code = any(first <= start < last for first, last in codes)
        return match[0] if is_code else change(match)

    return LINK.sub(led, line)
