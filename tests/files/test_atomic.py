from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from auricle.errors import OutputError
from auricle.files.atomic import write_whole, write_whole_folder
from forks import run

KILLED_HALF_WAY = """
import os, pathlib, signal, sys
from auricle.files.atomic import write_whole, write_whole_folder

def write(path):
    path = path / "one" if path.is_dir() else path
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

{}(pathlib.Path(sys.argv[1]), write)
"""

needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    write_whole(path, lambda temporary: temporary.write_text("one") and None)
    write_whole(path, lambda temporary: temporary.write_text("two") and None)
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_disk_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*file: No space left"):
        write_whole(path, fill)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@needs_forks
def test_a_writer_that_is_killed_half_way_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    assert run(["-c", KILLED_HALF_WAY.format("write_whole"), path]).returncode < 0
    assert path.read_text() == "old"
    (debris,) = set(tmp_path.iterdir()) - {path}
    assert debris.name.startswith(".file."), "by which the next writer knows it"


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(handle: int) -> None:
        steps.append(f"flushed {os.fstat(handle).st_size} bytes")
        fsync(handle)

    def take_place(self: Path, target: Path) -> Path:
        steps.append("replaced")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", take_place)
    write_whole(tmp_path / "file", lambda temporary: temporary.write_text("whole"))
    assert steps == ["flushed 5 bytes", "replaced"]


def test_an_interrupt_leaves_no_debris(tmp_path: Path) -> None:
    def interrupt(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_whole(tmp_path / "file" / "below", lambda temporary: None)


def _two_files(folder: Path) -> None:
    (folder / "one").write_text("1")
    (folder / "two").write_text("2")


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_is_written_where_none_is_or_an_empty_one(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "sub" / "folder"
    if exists:
        path.mkdir(parents=True)
    write_whole_folder(path, _two_files)
    assert sorted(file.name for file in path.iterdir()) == ["one", "two"]
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert (path / "one").stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_folder_or_file_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(OutputError, match="not an empty folder; choose another"):
            write_whole_folder(path, _two_files)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OutputError, match="cannot write"):
        write_whole_folder(tmp_path / "file" / "sub", _two_files)


@needs_forks
def test_a_folder_whose_writer_is_killed_half_way_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    assert run(["-c", KILLED_HALF_WAY.format("write_whole_folder"), path]).returncode < 0
    assert not path.exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def write(folder: Path) -> None:
        _two_files(folder)
        raise error

    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_whole_folder(tmp_path / "folder", write)
    assert not list(tmp_path.iterdir())
