from __future__ import annotations

from pathlib import Path

import pytest

from auricle.errors import DownloadError
from auricle.hub.location import (
    RepositoryUrl,
    is_location,
    is_repository_url,
    looks_like_path,
    parse_repository_url,
)


@pytest.mark.parametrize(
    "url", ["https://h/x.pt", "HTTP://h/x", "file:x.pt", "file:///x", "hf://a/b", "ftp://h/x"]
)
def test_urls_are_neither_names_nor_paths(url: str) -> None:
    assert is_location(url)
    assert not looks_like_path(url)


@pytest.mark.parametrize("text", ["tera", "a/b", "./a", r"C:\models\x.pt", "C:/x.pt", "a:b.pt", ""])
def test_names_and_paths_are_not_urls(text: str) -> None:
    assert not is_location(text)
    assert not is_location(Path(text))


@pytest.mark.parametrize(
    ("rest", "revision", "file"),
    [
        ("owner/name", None, None),
        ("owner/name@v1.0", "v1.0", None),
        ("owner/name@refs%2Fpr%2F1", "refs/pr/1", None),
        ("owner/name/x.pt", None, "x.pt"),
        ("owner/name@dev/a/b%20c/x.pt", "dev", "a/b c/x.pt"),
    ],
)
def test_parts_of_a_repository_url(rest: str, revision: str | None, file: str | None) -> None:
    expected = RepositoryUrl(repository="owner/name", revision=revision, file=file)
    assert is_repository_url(f"hf://{rest}")
    assert parse_repository_url(f"hf://{rest}") == expected
    assert parse_repository_url(f"HF://{rest}") == expected


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "owner",
        "/name",
        "owner/..",
        "../name",
        "owner/a..b",
        "owner/na me",
        "owner/name?x",
        "owner/name/",
        "owner/name//x",
        "owner/name/../x",
        "owner/name/%2E%2E/x",
        "owner/name/a%2Fb",
        r"owner/name/a\b",
        "owner/name/a%5Cb",
        "owner/name/a%00",
        "owner/name@",
        "owner/name@..%2F..",
        "owner/name@a%2F%2Fb",
        r"owner/name@a\b",
        r"owner\name",
    ],
)
def test_what_would_lead_elsewhere_is_refused(rest: str) -> None:
    with pytest.raises(DownloadError, match=r"expected hf://owner/name\[@revision\]\[/file\]"):
        parse_repository_url(f"hf://{rest}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tera", False),
        ("terra", False),
        ("", False),
        ("\0", False),
        ("x" * 5000, False),
        ("tera/", True),
        ("./tera", True),
        ("missing.ckpt", True),
        ("missing.PT", True),
        ("missing.safetensors", True),
        ("tera_960hr.pth", True),
        ("missing.bin", True),
        ("notes.txt", False),
        (Path("tera"), True),
    ],
)
def test_paths_are_distinguished_from_names(value: str | Path, expected: bool) -> None:
    assert looks_like_path(value) is expected


def test_what_exists_is_a_path_unless_the_catalogue_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"")
    (tmp_path / "tera").mkdir()
    assert looks_like_path("mine")
    assert not looks_like_path("tera")
