from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.extraction.inputs import paths
from auricle.extraction.inputs.paths import PathChecker


def kind(path: Path | str, fence: Path | None = None) -> str | None:
    verdict = PathChecker().verdict(str(path), None if fence is None else str(fence))
    return None if verdict is None else verdict[0]


def test_files_folders_and_nothing(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav")
    assert kind(tmp_path / "in/a.wav") is None
    assert kind(tmp_path / "in/b.wav") == "missing"
    assert kind(tmp_path / "in") == "unreadable"
    assert kind(f"{tmp_path}/in/\0.wav") == "unreadable"
    assert kind(f"{tmp_path}/in/\udcff.wav") == "unreadable"


def test_a_fence(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "in/sub/b.wav", "inner/c.wav", "d.wav")
    fence = tmp_path / "in"
    assert kind(fence / "a.wav", fence) is None
    assert kind(fence / "sub/../a.wav", fence) is None
    assert kind(fence / "../d.wav", fence) == "escape"
    assert kind(fence / "../inner/c.wav", fence) == "escape"
    assert kind(tmp_path / "in/a.wav", Path("/")) is None


def test_links_count_by_where_they_lead(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav", "out/b.wav")
    fence = tmp_path / "in"
    (fence / "out.wav").symlink_to(tmp_path / "out/b.wav")
    (fence / "in.wav").symlink_to("a.wav")
    (fence / "folder").symlink_to(tmp_path / "out")
    (fence / "broken.wav").symlink_to("gone.wav")
    assert kind(fence / "out.wav", fence) == "escape"
    assert kind(fence / "out.wav") is None
    assert kind(fence / "in.wav", fence) is None
    assert kind(fence / "folder/b.wav", fence) == "escape"
    assert kind(fence / "broken.wav", fence) == "missing"


def test_a_fence_that_is_a_link_itself(tmp_path: Path, touch: Callable[..., list[Path]]) -> None:
    touch("in/a.wav")
    (tmp_path / "link").symlink_to("in")
    assert kind(tmp_path / "link/a.wav", tmp_path / "link") is None
    assert kind(tmp_path / "in/a.wav", tmp_path / "link") is None


def test_threads_look_at_each_path_once(
    tmp_path: Path, touch: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CHUNK", 2)
    looked: list[str] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: (looked.append(str(path)), lstat(path))[1])
    names = [str(path) for path in touch(*(f"{n}.wav" for n in range(7)))]
    checker = PathChecker()
    checker.check([(name, None) for name in [*names, *names, f"{tmp_path}/gone.wav"]])
    verdicts = [checker.verdict(name, None) for name in names]
    assert verdicts == [None] * 7
    assert checker.verdict(f"{tmp_path}/gone.wav", None) is not None
    files = [name for name in looked if name.endswith(".wav")]  # else of the folders above
    assert sorted(files) == sorted([*names, f"{tmp_path}/gone.wav"])
