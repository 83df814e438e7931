"""Where no more can be written: the command says so and stops; with space it goes on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile

import auricle
from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.files import atomic
from auricle.files.atomic import lock_path
from auricle.store.reader import open as open_store

FORMATS = ("store", "npy", "kaldi", "webdataset", "hdf5", "arrow")
NUM_FILES = 12
SHARDS = ("--model", "fbank", "--shard-mib", "0.1", "--batch-seconds", "2")

STOPPED = re.compile(
    r"stopped; (.* keeps \d+ utterances? of this run( \(\d+ in unfinished shards\))?; )?"
    r"run the same command to resume"
)

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, and one file that is none."""
    folder = tmp_path_factory.mktemp("corpus")
    samples, rate = soundfile.read(sample_paths()[0])
    for index in range(NUM_FILES):
        piece = samples[700 * index : 700 * index + 8000 + 1000 * index]
        soundfile.write(folder / f"u{index:02d}.wav", piece, rate)
    (folder / "noise.wav").write_bytes(b"no audio at all")
    return folder


def extract(corpus: Path, out: Path, *options: str) -> int:
    return main(["extract", str(corpus), "--out", str(out), *SHARDS, *options])


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    assert store.is_closed
    assert store.verify() == []
    return {name: store[name].numpy().tobytes() for name in store.ids}


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run gives that nothing happens to."""
    out = tmp_path_factory.mktemp("stores") / "whole"
    extract(corpus, out)
    return bytes_of(out)


def hidden_files(out: Path) -> list[Path]:
    """Temporary files; the store's lock is none."""
    return [path for path in out.rglob(".*") if path.is_file() and path != lock_path(out)]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a command ended; besides it are those of utterances, and an advice."""
    *before, last = capsys.readouterr().err.splitlines()
    assert all(STOPPED.fullmatch(line) for line in before if "noise.wav" not in line)
    return last


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """No file grows beyond that, for the system."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("output_format", FORMATS)
def test_every_format_says_why_it_cannot_write(
    corpus: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output_format: str,
) -> None:
    if output_format in ("hdf5", "kaldi"):
        pytest.importorskip({"hdf5": "h5py", "kaldi": "kaldiio"}[output_format])
    out, options = tmp_path / "out", ("--format", output_format)
    with files_of_at_most(12000):
        assert extract(corpus, out, *options) == 1
    line = error_line(capsys)
    kind = "data" if output_format == "npy" else "shards"
    assert line.startswith(f"auricle: error: cannot write {out / kind}{os.sep}")
    assert os.strerror(errno.EFBIG) in line
    assert "space" in line
    assert hidden_files(out) == []
    assert len(open_store(out)) == 0
    extract(corpus, out, *options)
    assert bytes_of(out) == expected


def test_whichever_file_does_not_fit_it_is_named_and_made_later(
    corpus: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed: set[str] = set()
    while True:
        out = tmp_path / f"out{len(failed)}"
        countdown = iter([None] * len(failed))

        def fsync(handle: int, countdown: Iterator[None] = countdown) -> None:
            if next(countdown, "now") == "now":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "fsync", fsync)
            assert extract(corpus, out) == 1
        if (out / "meta.json").exists() and open_store(out).is_closed:
            break
        line = error_line(capsys)
        path, _, reason = line.removeprefix("auricle: error: cannot write ").partition(": ")
        assert reason.startswith(os.strerror(errno.ENOSPC))
        failed.add(Path(path).relative_to(out).as_posix() + f" {len(failed)}")
        assert not out.exists() or hidden_files(out) == []
        extract(corpus, out)
        assert bytes_of(out) == expected
        capsys.readouterr()
    names = [name.partition(" ")[0] for name in failed]
    assert names.count("meta.json") == 2  # at the beginning, and to say that it is closed
    assert {"plans/00000.parquet", "errors.jsonl", "index.parquet"} < set(names)
    assert {"shards/00000-000002.safetensors", "parts/00000-000002.parquet"} < set(names)


def test_a_temporary_folder_that_cannot_be_written_is_named(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        assert extract(corpus, tmp_path / "out") == 1
    assert "TMPDIR" in error_line(capsys)
    extract(corpus, tmp_path / "out")
    assert len(bytes_of(tmp_path / "out")) == NUM_FILES


PROGRAM = """
import shutil
import subprocess
import sys
from auricle.__main__ import main

disk, *arguments = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=260k", "tmpfs", disk], check=True)
print("status", main(arguments), flush=True)
subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
print("status", main(arguments), flush=True)
shutil.copytree(f"{disk}/out", f"{disk}-copy")
"""
"""A disk of its own for a command, which is full, and then is not."""


def test_a_full_disk(corpus: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--mount"]
    try:
        probe = ["sh", "-c", 'mount -t tmpfs tmpfs "$0"', str(disk)]
        subprocess.run([*unshare, *probe], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets nobody mount")
    speech = shutil.copytree(corpus, tmp_path / "speech")
    (speech / "noise.wav").unlink()
    arguments = ["extract", str(speech), "--out", str(disk / "out"), *SHARDS]
    result = subprocess.run(
        [*unshare, sys.executable, "-c", PROGRAM, str(disk), *arguments],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(auricle.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    stopped, error = result.stderr.splitlines()
    assert STOPPED.fullmatch(stopped)
    assert error.startswith(f"auricle: error: cannot write {disk / 'out'}{os.sep}")
    assert os.strerror(errno.ENOSPC) in error
    first, report, *_, last = result.stdout.splitlines()
    assert (first, last) == ("status 1", "status 0")
    assert "already present" in report  # part of it had found room
    copy = tmp_path / "disk-copy"
    assert hidden_files(copy) == []
    assert bytes_of(copy) == expected
