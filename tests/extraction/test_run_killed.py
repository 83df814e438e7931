"""The command, killed at whatever moment: nothing is lost, nothing whole is made again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet
import pytest
import soundfile
import torch

import auricle
from auricle.audio.inputs import sample_paths
from auricle.files.atomic import lock_path
from auricle.store.folder import LocalFolder
from auricle.store.index import completed_shards
from auricle.store.reader import open as open_store
from forks import Forked, run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills groups of processes")

NUM_FILES = 44
MODEL = "tera_mini"
SHARDS = ("--shard-mib", "0.05", "--batch-seconds", "1")
"""A shard of each file or two: what a kill can fall into."""

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 120.0
"""What no step takes; a test that hangs fails."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    samples, rate = soundfile.read(sample_paths()[0])
    for index in range(NUM_FILES):
        start, num_samples = 700 * index, 4000 + 200 * index
        soundfile.write(folder / f"u{index:02d}.wav", samples[start : start + num_samples], rate)
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nothing happened to, and what it printed in `report`."""
    out = tmp_path_factory.mktemp("stores") / "undisturbed"
    result = finish(corpus, out)
    assert (result.returncode, result.stderr) == (0, "")
    (out.parent / "report").write_text(result.stdout)
    return out


def command(corpus: Path, out: Path, *options: str) -> list[str]:
    arguments = [str(corpus), "--model", MODEL, "--out", str(out), *SHARDS, *options]
    return ["-m", "auricle", "extract", *arguments]


def environment() -> dict[str, str]:
    path = str(Path(auricle.__file__).parents[1])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def finish(corpus: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return run(command(corpus, out, *options), env=environment(), timeout=PATIENCE_SECONDS)


@contextmanager
def running(corpus: Path, out: Path, *options: str) -> Iterator[Forked]:
    """The command in a group of processes of its own, of which nothing is left afterwards."""
    process = Forked(command(corpus, out, *options), env=environment())
    try:
        yield process
    finally:
        process.close()


def kill_group(process: Forked, number: int = signal.SIGKILL) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # all gone; macOS says so for what has ended
        return


def wait_for(process: Forked, happened: Callable[[], bool]) -> None:
    """Wait until something has happened, or the process has ended."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(POLL_SECONDS)


def kill_at(process: Forked, happened: Callable[[], bool], seconds: float) -> bool:
    """Kill all of the command so long after something has happened; whether that ended it."""
    wait_for(process, happened)
    time.sleep(seconds)
    kill_group(process)
    return process.wait() == -signal.SIGKILL


def num_parts(out: Path) -> int:
    return sum(not path.name.startswith(".") for path in (out / "parts").glob("*"))


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    assert store.is_closed
    return {name: store[name].numpy().tobytes() for name in store.ids}


def files_of(out: Path) -> set[str]:
    """All files, temporary ones too."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def finished_files(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the files of shards that count."""
    done = {key.stem for key in completed_shards(LocalFolder(out))}
    found = [path for path in (out / "shards").glob("*") if path.stem in done]
    found += [path for path in (out / "parts").glob("*") if path.stem in done]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_kills_at_random_moments_change_nothing(
    corpus: Path, undisturbed: Path, tmp_path: Path, is_whole: bool
) -> None:
    chance = random.Random(6)
    out = tmp_path / "out"
    num_shards = num_parts(undisturbed)
    shard_seconds = elapsed_seconds(undisturbed) / num_shards
    seen: dict[str, tuple[int, int]] = {}
    progress: list[int] = []
    num_killed = 0

    def kill(happened: Callable[[], bool], seconds: float) -> None:
        nonlocal num_killed
        with running(corpus, out) as process:
            num_killed += kill_at(process, happened, chance.uniform(0, seconds))
        progress.append(num_parts(out))
        seen.update(finished_files(out))

    num_planning, num_writing, num_merging = (3, 12, 4) if is_whole else (1, 5, 1)
    kill(lambda: True, shard_seconds)  # while it starts
    for _ in range(num_planning):
        kill((out / "meta.json").exists, 2 * shard_seconds)
    for _ in range(num_writing):  # and encoding
        next_part = min(num_parts(out) + 1, num_shards)
        kill(lambda next_part=next_part: num_parts(out) >= next_part, 1.5 * shard_seconds)
    for _ in range(num_merging):  # while it does the rest, and merges the index
        kill(lambda: num_parts(out) == num_shards, shard_seconds)

    result = finish(corpus, out)
    assert (result.returncode, result.stderr) == (0, "")
    assert num_killed >= (12 if is_whole else 4)  # some may be over before
    assert len({count for count in progress if 0 < count < num_shards}) >= (5 if is_whole else 2)
    assert len(seen) == 2 * num_shards
    assert finished_files(out) == seen
    assert len(bytes_of(out)) == NUM_FILES
    assert bytes_of(out) == bytes_of(undisturbed)
    assert index_of(out).equals(index_of(undisturbed))
    assert open_store(out).verify() == []
    assert files_of(out) == files_of(undisturbed)


def elapsed_seconds(out: Path) -> float:
    """What the run into `out` said that it took, its start left out."""
    found = re.search(r"s of audio in ([\d.]+) s", (out.parent / "report").read_text())
    assert found is not None
    return float(found[1])


def index_of(out: Path) -> pyarrow.Table:
    return pyarrow.parquet.read_table(out / "index.parquet")


def kept_by(line: str) -> int:
    """Utterances that the line says are kept with which a run stops."""
    found = re.fullmatch(
        r"stopped; \S+ keeps (\d+) utterances? of this run( \(\d+ in unfinished shards\))?; run the "
        r"same command to resume",
        line,
    )
    assert found is not None, line
    return int(found[1])


def segments(out: Path) -> set[Path]:
    return set((out / "partial").glob("*/[!.]*"))


def test_a_shard_that_is_not_whole_survives_signals(
    corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """One shard for all, a file each, stopped in the middle of encoding, then of writing files."""
    chance = random.Random(7)
    out = tmp_path / "out"
    options = ("--format", "npy", "--shard-mib", "256", "--flush-seconds", "0.02")
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    chance.shuffle(numbers)
    num_kept = 0
    for number in numbers:
        before = segments(out)

        def begun(before: set[Path] = before) -> bool:
            return len(segments(out) - before) > 1

        with running(corpus, out, *options) as process:
            wait_for(process, begun)
            time.sleep(chance.uniform(0, 0.05))
            kill_group(process, number)
            _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number
            assert num_kept < kept_by(stderr.splitlines()[0])
        now = max(int(path.stem[7:]) for path in segments(out))  # batches of an utterance each
        assert num_kept < now < NUM_FILES
        num_kept = now
    with running(corpus, out, *options) as process:
        wait_for(process, lambda: bool(list((out / "data").glob("[!.]*.npy"))))
        kill_group(process)
        assert process.wait() == -signal.SIGKILL
    result = finish(corpus, out, *options)
    assert result.returncode == 0
    found = re.search(r"; (\d+) already present", result.stdout)
    assert found is not None
    assert int(found[1]) >= num_kept  # none of them was encoded again
    assert bytes_of(out) == bytes_of(undisturbed)
    assert open_store(out).verify() == []
    assert not (out / "partial").exists()
    hidden = {name for name in files_of(out) if Path(name).name.startswith(".")}
    assert hidden == {lock_path(out).name}


@pytest.mark.whole  # test_extract_units.py stops such a run in its own process
def test_units_of_killed_runs_are_those_of_an_undisturbed_one(corpus: Path, tmp_path: Path) -> None:
    """Killed while batches of its only shard are flushed: the same bytes, of the text too."""
    generator = torch.Generator().manual_seed(0)
    encoder = auricle.load(MODEL)
    units = auricle.Units(
        centroids=torch.randn(1, 9, encoder.layer_info(-1).dim, generator=generator),
        layer=encoder.layer_info(-1).name,
        model=MODEL,
    )
    units.save(tmp_path / "units.safetensors")
    options = ("--units", str(tmp_path / "units.safetensors"), "--format", "text")
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    assert finish(corpus, undisturbed, *options).returncode == 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = segments(out)
        with running(corpus, out, *options, "--flush-seconds", "0.02") as process:
            wait_for(process, lambda before=before: len(segments(out) - before) > 1)
            kill_group(process, number)
            process.communicate(timeout=PATIENCE_SECONDS)
        assert not (out / "units.txt").exists()
        assert segments(out) > before
    result = finish(corpus, out, *options)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"; \d+ already present", result.stdout)
    assert len((out / "units.txt").read_text().splitlines()) == NUM_FILES
    for name in (
        "units.txt",
        *(f"shards/{path.name}" for path in (undisturbed / "shards").iterdir()),
    ):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


def test_decoding_processes_end_with_the_command(
    corpus: Path, undisturbed: Path, tmp_path: Path, is_whole: bool
) -> None:
    out = tmp_path / "out"
    ways = ["kill the command alone", "interrupt all", *(["kill all"] if is_whole else [])]
    for how in ways:
        before = num_parts(out)
        num_workers = "2" if how == "kill all" else "1"
        with running(corpus, out, "--workers", num_workers) as process:
            wait_for(process, lambda before=before: num_parts(out) > before)
            if how == "kill the command alone":
                process.kill()
            else:
                kill_group(process, signal.SIGINT if how == "interrupt all" else signal.SIGKILL)
            # Over once nobody is left who could write.
            stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        assert stdout == ""
        if how != "interrupt all":
            assert process.returncode == -signal.SIGKILL
            continue
        assert process.returncode == 130
        stopped, interrupted = stderr.splitlines()
        assert kept_by(stopped) > 0
        assert interrupted == "auricle: interrupted"
    assert len(ways) <= num_parts(out) < num_parts(undisturbed)
    assert finish(corpus, out).returncode == 0
    assert bytes_of(out) == bytes_of(undisturbed)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes below /proc")
def test_a_decoding_process_that_is_killed_is_an_error_that_says_what_to_do(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with running(corpus, out, "--workers", "1") as process:
        wait_for(process, lambda: bool(decoding_processes(process.pid)))
        os.kill(decoding_processes(process.pid)[0], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert stdout == ""
    lines = stderr.splitlines()
    assert kept_by(next(line for line in lines if line.startswith("stopped; "))) >= 0
    assert lines[-1].startswith("auricle: error: a process that decodes audio has died"), stderr
    assert "run the same command again to go on" in lines[-1]
    # The loader's signal may fall into code of torch that logs whatever is raised in it.
    assert not [line for line in lines if line.startswith("Traceback")], stderr


def decoding_processes(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()
            if int(state[1]) == parent and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
