from __future__ import annotations

from pathlib import Path

import pytest

from auricle.__main__ import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tera_checkpoint: Path) -> Path:
    """A cache with one downloaded file, its note and half of another."""
    folder = tmp_path / "cache" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AURICLE_CACHE", str(folder.parent))
    (folder / "tera_960hr.ckpt").write_bytes(b"x" * 1234)
    (folder / "tera_960hr.ckpt.sha256").write_text("ab" * 32 + "  tera_960hr.ckpt\n")
    (folder / "apc_360hr.ckpt.part").write_bytes(b"half")
    return folder.parent


def test_path(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "path"]) == 0
    assert capsys.readouterr().out == f"{cache}\n"


def test_list_shows_names_kinds_sizes_and_dates(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "list"]) == 0
    header, apc, tera, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "kind", "bytes", "modified"]
    assert apc.split()[:3] == ["apc_360hr", "unfinished", "4"]
    assert tera.split()[:3] == ["tera_960hr", "original", "1,234"]
    digest = (cache / "checkpoints" / "tera_960hr.ckpt.sha256").stat().st_size
    assert total == f"{1238 + digest:,} bytes in {cache}"


def test_list_shows_a_digest_that_has_outlived_its_original(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache / "checkpoints" / "tera_960hr.ckpt").unlink()
    assert main(["cache", "list"]) == 0
    _, _, tera, _ = capsys.readouterr().out.splitlines()
    assert tera.split()[:2] == ["tera_960hr", "digest"]


def test_remove_says_what_it_freed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cache / "checkpoints"
    assert main(["cache", "remove", "tera", "--converted"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert main(["cache", "remove", "--originals"]) == 0
    assert "freed 1,234 bytes" in capsys.readouterr().out
    assert not (folder / "tera_960hr.ckpt").exists()
    assert (folder / "tera_960hr.ckpt.sha256").exists()
    assert main(["cache", "remove", "tera"]) == 0
    assert not (folder / "tera_960hr.ckpt.sha256").exists()
    assert (folder / "apc_360hr.ckpt.part").exists()
    assert main(["cache", "remove", "--all"]) == 0
    assert not (folder / "apc_360hr.ckpt.part").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing selected to remove"),
        (["tera", "--all"], "not both"),
        (["terra"], "no model is called"),
    ],
)
def test_remove_must_be_told_what(
    arguments: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "remove", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (cache / "checkpoints" / "tera_960hr.ckpt").exists()
