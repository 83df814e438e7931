"""What is in the cache, by model, and its removal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import auricle
from auricle.catalogue import search
from auricle.errors import OutputError, UnknownModelError
from auricle.files.atomic import file_sha256, pin, pinned_sha256
from auricle.hub.cache import cached_path, locked_in_cache, url_folder
from auricle.hub.contents import items, items_of, remove
from golden_cases import GoldenCase

TERA = GoldenCase("tera").checkpoints[0]


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Path:
    """TERA, downloaded and loaded once."""
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    path = cached_path(search.find("tera"))
    path.parent.mkdir(parents=True)
    shutil.copy(TERA, path)
    pin(path, file_sha256(path))
    auricle.load("tera")
    return path


def found() -> list[tuple[str, str]]:
    return [(item.name, item.kind) for item in items()]


def test_an_empty_cache_holds_nothing() -> None:
    assert items() == []


def test_files_are_named_by_their_models(original: Path) -> None:
    kinds = ["converted", "digest", "original"]
    assert found() == [("tera_960hr", kind) for kind in kinds]
    sizes = {item.kind: item.num_bytes for item in items()}
    assert sizes["original"] == TERA.stat().st_size
    assert items_of("tera") == items_of("tera_960hr") == items()
    assert items_of("apc") == []
    with pytest.raises(UnknownModelError):
        items_of("terra")


def test_files_of_urls_are_named_by_the_url_once_loaded(
    server: Any, reply: Any, cache: Path
) -> None:
    url = server.say("/a.ckpt", reply(body=TERA.read_bytes()))
    auricle.load(url)
    names = [item.name for item in items_of(url)]
    assert names == [url] * 3
    (converted,) = (item for item in items() if item.kind == "converted")
    remove(converted)
    (item,) = (item for item in items() if item.kind == "original")
    assert item.name.startswith("urls/")
    assert items_of(item.name)


def test_a_digest_alone_is_found_by_its_url(cache: Path) -> None:
    url = "https://example.org/x.ckpt"
    folder = url_folder(url)
    folder.mkdir(parents=True)
    (folder / "x.ckpt.sha256").write_text("")
    assert [item.kind for item in items_of(url)] == ["digest"]
    assert items_of("https://example.org/y.ckpt") == []


def test_what_is_not_whole_says_so(cache: Path, original: Path) -> None:
    for name in ("npc_360hr.ckpt.part", "npc_360hr.ckpt.part.json"):
        (original.parent / name).write_bytes(b"{}")
    (cache / "converted" / ".x-1.safetensors.abc").write_bytes(b"half")
    (cache / "converted" / "y-1.safetensors").write_bytes(b"without a note")
    unfinished = [item.path.name for item in items() if item.kind == "unfinished"]
    assert len(unfinished) == 4
    assert [kind for name, kind in found() if name == "npc_360hr"] == ["unfinished"] * 2
    for item in items():
        remove(item)
    assert items() == []
    left = [path.name for path in cache.rglob("*") if path.is_file()]
    assert all(name.endswith(".lock") for name in left)


def test_repositories_are_models_of_the_catalogue_or_urls(cache: Path) -> None:
    for name in ("models--facebook--hubert-base-ls960", "models--owner--some--name"):
        blob = cache / "huggingface" / name / "blobs" / "ab"
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"12345")
        snapshot = blob.parent.parent / "snapshots" / "c"
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(blob)
    assert found() == [("hf://owner/some--name", "original"), ("hubert_base", "original")]
    assert [item.num_bytes for item in items()] == [5, 5]
    (item,) = items_of("hf://owner/some--name")
    assert remove(item) == 5
    assert not item.path.exists()


def test_originals_may_go_while_conversion_and_digest_stay(original: Path) -> None:
    digest = pinned_sha256(original)
    (item,) = (item for item in items() if item.kind == "original")
    assert remove(item) == TERA.stat().st_size
    assert not original.exists()
    assert pinned_sha256(original) == digest
    assert auricle.load("tera").info.sha256 == digest


def test_what_another_process_works_on_is_left(original: Path) -> None:
    (item,) = (item for item in items() if item.kind == "original")
    with locked_in_cache(original, 0.0), pytest.raises(OutputError, match="in use"):
        remove(item)
    assert original.exists()


def test_what_may_not_be_removed_says_who_can(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    (item,) = (item for item in items() if item.kind == "original")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match="Permission denied; its owner can"):
        remove(item)
