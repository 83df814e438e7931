"""One writer at a time, and the errors where that cannot be had."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from auricle.errors import OutputError
from auricle.files.atomic import lock_path, locked
from forks import run

HELD = OutputError("another process is writing")


@pytest.mark.parametrize("name", ["model.ckpt", ""])
def test_only_one_holds_the_lock(name: str, tmp_path: Path) -> None:
    path = tmp_path / name  # a file that is not there yet, or the folder itself
    with (
        locked(path, 0.0, HELD),
        pytest.raises(OutputError, match="another process is writing"),
        locked(path, 0.0, HELD),
    ):
        pass
    with locked(path, 0.0, HELD):
        pass
    assert [file.name for file in tmp_path.iterdir()] == [lock_path(path).name]


@pytest.mark.skipif(not hasattr(filelock, "UnixFileLock"), reason="needs processes that fork")
def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib\n"
        "from auricle.errors import OutputError\n"
        "from auricle.files.atomic import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 0.0, OutputError('held')):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run(["-c", code, tmp_path]).returncode < 0
    assert lock_path(tmp_path).exists()
    with locked(tmp_path, 0.0, HELD):
        pass


def test_others_of_a_shared_folder_may_wait_too(tmp_path: Path) -> None:
    with locked(tmp_path / "f", 0.0, HELD):
        assert (tmp_path / ".f.lock").stat().st_mode & 0o666 == 0o666


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OutputError, match="folder on a local disk"), locked(tmp_path, 0.0, HELD):
        pass
