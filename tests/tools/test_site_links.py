"""Links that leave docs/ lead somewhere on the site, and to what exists."""

from __future__ import annotations

import pytest
import site_links

ADDRESS = "https://example.org/auricle"


def led(markdown: str, page: str = "a.md", repository: str | None = None) -> tuple[str, list[str]]:
    """A page's text as the site has it, and what was complained of."""
    complaints: list[str] = []
    return site_links.rewritten(markdown, page, repository, complaints.append), complaints


@pytest.mark.parametrize(
    ("page", "link", "place"),
    [
        ("a.md", "../LICENSE", "source/LICENSE"),
        ("a.md", "../recipes/mini/apc.toml#top", "source/recipes/mini/apc.toml#top"),
        ("models/a.md", "../../LICENSE", "../source/LICENSE"),
        ("a.md", "../CONTRIBUTING.md", "contributing.md"),
        ("reference/a.md", "../../CHANGELOG.md#x", "../changelog.md#x"),
        ("a.md", "../README.md", "index.md"),
        ("contributing.md", "docs/contract.md", "contract.md"),
        ("contributing.md", "docs/models/README.md", "models/README.md"),
        ("contributing.md", "LICENSE", "source/LICENSE"),
    ],
)
def test_without_an_address_links_go_to_pages_and_copies(page: str, link: str, place: str) -> None:
    assert led(f"see [x]({link}).", page) == (f"see [x]({place}).", [])


@pytest.mark.parametrize(
    ("link", "place"),
    [
        ("../LICENSE", f"{ADDRESS}/blob/main/LICENSE"),
        ("../recipes", f"{ADDRESS}/tree/main/recipes"),
        ("../CONTRIBUTING.md", "contributing.md"),
    ],
)
def test_with_an_address_they_go_there(link: str, place: str) -> None:
    assert led(f"[x]({link})", repository=ADDRESS) == (f"[x]({place})", [])
    assert led(f"[x]({link})", repository=f"{ADDRESS}/") == (f"[x]({place})", [])


@pytest.mark.parametrize(
    "link", ["b.md", "b.md#c", "models/x.png", "#here", "https://a.b/../c", "mailto:a@b.c", "/x"]
)
def test_other_links_stay(link: str) -> None:
    assert led(f"[x]({link})") == (f"[x]({link})", [])


@pytest.mark.parametrize("link", ["../nothing.md", "../../outside", "../src/none.py#L1"])
def test_what_does_not_exist_is_told(link: str) -> None:
    text, complaints = led(f"[x]({link})")
    assert text == f"[x]({link})"
    assert len(complaints) == 1
    assert "does not exist" in complaints[0]


def test_a_folder_needs_an_address() -> None:
    assert "the folder recipes" in led("[x](../recipes)")[1][0]


def test_code_stays_as_it_is() -> None:
    page = "```text\n[x](../LICENSE)\n```\n`[x](../LICENSE)` and [`y`](../LICENSE)\n"
    expected = "```text\n[x](../LICENSE)\n```\n`[x](../LICENSE)` and [`y`](source/LICENSE)\n"
    assert led(page) == (expected, [])
    nested = "````text\n```\n[x](../LICENSE)\n```\n````\n[x](../LICENSE)"
    assert led(nested)[0].count("source/LICENSE") == 1


def test_links_by_reference_are_links_too() -> None:
    assert led("[x]: ../LICENSE") == ("[x]: source/LICENSE", [])


def test_only_files_outside_are_copied() -> None:
    text = "[a](../LICENSE) [b](b.md) [c](../CONTRIBUTING.md) [d](https://x.org) `[e](../NOTICE)`"
    assert list(site_links.linked_outside(text, "docs/a.md")) == ["LICENSE"]
