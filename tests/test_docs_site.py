"""The site of the documentation: complete, without a warning, and loading nothing from elsewhere.

Links to other sites are checked for their form alone: nothing here goes through a network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import auricle

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

PAGES_OF_THE_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site -> file that tools/site_links.py makes it of."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(`{3,}).*?^\1\s*?$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
LOADED = {
    ("img", "src"),
    ("img", "srcset"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("video", "src"),
    ("video", "poster"),
    ("audio", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("link", "href"),
}
"""Tags and attributes whose addresses a browser fetches by itself."""

CSS_ADDRESS = re.compile(r"@import\s+[\"']?([^\"';)]+)|url\(\s*[\"']?([^\"')]+)")


def configuration() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    return loaded


def pages_of(nav: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(part)


def test_every_page_is_in_the_navigation_once_or_left_out_by_name() -> None:
    config = configuration()
    named = list(pages_of(config["nav"]))
    assert len(named) == len(set(named))
    left_out = [line.strip("/") for line in config["exclude_docs"].split()]
    pages = {
        page
        for page in (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
        if not any(page == name or page.startswith(f"{name}/") for name in left_out)
    }
    assert set(named) == pages | set(PAGES_OF_THE_ROOT), "see `nav` in mkdocs.yml"
    assert all((DOCS / name).exists() for name in left_out)


def test_every_public_name_has_its_entry_in_the_reference() -> None:
    text = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    entries = re.findall(r"^::: auricle\.(\w+)$", text, re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert set(entries) == set(auricle.__all__) - {"__version__"}
    index = (DOCS / "reference" / "index.md").read_text()
    errors = {name for name in auricle.__all__ if name.endswith("Error")} - {"AuricleError"}
    assert all(f"`{name}`" in index for name in set(auricle.__all__) - errors)


def test_links_of_the_pages_work_in_the_repository_too() -> None:
    missing = []
    for page in [*DOCS.rglob("*.md"), *(ROOT / name for name in PAGES_OF_THE_ROOT.values())]:
        text = CODE.sub("", FENCED.sub("", page.read_text()))
        for target in LINK.findall(text):
            path = unquote(target.partition("#")[0])
            if path and not urlsplit(target).scheme and not (page.parent / path).exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")
    assert not missing


class Tags(HTMLParser):
    """What a page of the site loads, links and can be linked by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.styles: list[str] = []
        self._is_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._is_style = tag == "style"
        self.styles.append(values.get("style", ""))
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.linked.append(values["href"])
        for name, value in values.items():
            # A page's own address, or the next page's, is named but not fetched.
            if (tag, name) in LOADED and values.get("rel") not in ("canonical", "next", "prev"):
                self.loaded.append(value)

    def handle_data(self, data: str) -> None:
        if self._is_style:
            self.styles.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning fails it."""
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    environment.pop("PYTHONPATH", None)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert built.returncode == 0, built.stdout
    assert "warning" not in built.stdout.lower(), built.stdout
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Tags]:
    """Every page of the built site, by its path."""
    return {
        path.relative_to(site).as_posix(): Tags(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
    }


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Tags]) -> None:
    addresses = {address for tags in pages.values() for address in tags.loaded}
    styles = [style for tags in pages.values() for style in tags.styles]
    styles += [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    for style in styles:
        addresses |= {one or other for one, other in CSS_ADDRESS.findall(style)}
    assert addresses
    elsewhere = {
        address
        for address in addresses
        if urlsplit(address).netloc or urlsplit(address).scheme not in ("", "data")
    }
    assert not elsewhere
    # The theme's script would fetch one for diagrams, where a page has any.
    assert not [name for name in pages if 'class="mermaid"' in (site / name).read_text()]


def test_every_link_inside_the_site_leads_to_what_is_there(
    site: Path, pages: dict[str, Tags]
) -> None:
    broken = []
    for name, tags in pages.items():
        if name == "404.html":  # its links begin at the root
            continue
        for link in tags.linked:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = os.path.normpath(PurePosixPath(name).parent / unquote(parts.path or "."))
            goal = name if not parts.path else goal
            if (site / goal).is_dir():
                goal = os.path.normpath(PurePosixPath(goal) / "index.html")
            is_there = (site / goal).is_file()
            anchors = pages[goal].anchors if goal in pages else None
            anchor = unquote(parts.fragment)
            if not is_there or (anchor and anchors is not None and anchor not in anchors):
                broken.append(f"{name}: {link}")
    assert not broken


def test_links_to_other_sites_are_well_formed(pages: dict[str, Tags]) -> None:
    links = {link for tags in pages.values() for link in tags.linked}
    outside = {link for link in links if urlsplit(link).scheme or urlsplit(link).netloc}
    assert outside
    for link in outside:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), link
        assert not re.search(r"[\s<>\"{}|\\^`]", link), link


def test_the_reference_is_on_the_site(pages: dict[str, Tags]) -> None:
    anchors = set().union(
        *(tags.anchors for name, tags in pages.items() if name.startswith("reference/"))
    )
    for name in set(auricle.__all__) - {"__version__"}:
        assert f"auricle.{name}" in anchors
