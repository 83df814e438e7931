"""Ray: what it gives each actor, and the command on a cluster of this machine.

Ray ends the process that uses it, past all of Python, where the head of the cluster has gone away.
So that process is another one than that of the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile

import auricle
from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.extraction.engines import actors
from auricle.store.reader import open as open_store

PROGRAM = """
import json, sys
import ray
from auricle.__main__ import main

ray.init(
    num_cpus=3,
    object_store_memory=100 << 20,
    include_dashboard=False,
    log_to_driver=False,
    logging_level="ERROR",
    _temp_dir=sys.argv[1],
    # A machine that is busy is not a machine that has gone away.
    _system_config={"health_check_failure_threshold": 60},
)
statuses = [main(arguments) for arguments in json.load(sys.stdin)]
print("statuses", *statuses, flush=True)
ray.shutdown()
"""

MARK = "AURICLE_TEST_OF_RAY"
"""Variable of the environment by which processes of a test are known."""

PATIENCE_SECONDS = 400.0
"""What no test takes; one that hangs fails."""

NUM_FILES = 24


@pytest.mark.parametrize(
    ("num_cpus", "num_gpus", "num_shards", "wanted", "expected"),
    [
        (16, 0, 100, None, (15, 1.0)),
        (16, 4, 100, None, (4, 1.0)),
        (4, 8, 100, None, (8, 0.25)),
        (16, 0, 3, None, (3, 1.0)),
        (16, 0, 100, 2, (2, 1.0)),
        (2, 0, 100, 5, (1, 1.0)),
        (1, 0, 100, None, (1, 0.5)),
    ],
)
def test_actors_never_take_all_cpus(
    num_cpus: int, num_gpus: int, num_shards: int, wanted: int | None, expected: tuple[int, float]
) -> None:
    count, options = actors(num_shards, num_cpus=num_cpus, num_gpus=num_gpus, wanted=wanted)
    assert (count, options["num_cpus"]) == expected
    assert count * options["num_cpus"] < num_cpus
    assert options["num_gpus"] == bool(num_gpus)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Speech, in one file of which is what no microphone gives."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    samples, rate = soundfile.read(sample_paths()[0])
    for index in range(NUM_FILES):
        start = 700 * index
        soundfile.write(folder / f"u{index:02d}.wav", samples[start : start + 16000], rate)
    damaged = samples[:16000].copy()
    damaged[100] = float("nan")
    soundfile.write(folder / "u07.wav", damaged, rate, subtype="FLOAT")
    return folder


@contextlib.contextmanager
def cluster(
    cwd: Path, commands: Sequence[Sequence[str]], mark: str
) -> Iterator[subprocess.Popen[str]]:
    """Commands, one after the other, in a process with a Ray of its own, all of which ends."""
    # Names of sockets must be short.
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)
    environment = {
        **os.environ,
        MARK: mark,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(auricle.__file__).parents[1]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    try:
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, scratch],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(commands))
                process.stdin.close()
                process.stdin = None
                yield process
            finally:
                process.kill()
                for pid in marked_processes(mark, ""):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def marked_processes(mark: str, title: str) -> list[int]:
    """Processes of a test whose command line holds `title`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_marked = f"{MARK}={mark}\0".encode() in (path / "environ").read_bytes() + b"\0"
            if is_marked and title.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes below /proc")
def test_two_actors_one_of_which_is_killed_write_what_one_process_does(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_whole: bool
) -> None:
    options = ["--model", "tera_mini", "--shard-mib", "0.05", "--batch-seconds", "1"]
    local = ["extract", str(corpus), *options, "--out", str(tmp_path / "local")]
    assert main(local) == 1
    expected_errors = [line for line in capsys.readouterr().err.splitlines() if "u07" in line]
    assert len(expected_errors) == 1

    # Paths that only this folder makes sense of.
    ray = [*options, "--engine", "ray", "--actors", "2", "--out"]
    commands = [["extract", "corpus", *ray, "out"]]
    broken = tmp_path / "broken"
    if is_whole:
        one = str(corpus / "u00.wav")
        assert main(["extract", one, *options, "--out", str(broken)]) == 0
        shutil.rmtree(broken / "shards")
        (broken / "shards").touch()  # nothing can be written below it
        commands.append(["extract", "corpus/u00.wav", *ray, "broken"])
    mark = str(os.getpid())
    with cluster(tmp_path, commands, mark) as process:
        num_killed = kill_one_actor(process, tmp_path / "out", mark)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)

    assert num_killed == 1
    assert process.returncode == 0, stderr
    assert " ".join(["statuses", *("1" for _ in commands)]) in stdout.splitlines()
    assert f"wrote {NUM_FILES - 1} of {NUM_FILES} utterances to out; 1 failed" in stdout
    lines = [line for line in stderr.splitlines() if not line.startswith("[")]  # Ray's own
    assert [line for line in lines if "u07" in line] == expected_errors
    if is_whole:
        assert lines[-2].startswith("stopped; ")
        assert lines[-2].endswith("run the same command to resume")
        assert lines[-1].startswith(f"auricle: error: cannot write {broken / 'shards'}")

    first, second = open_store(tmp_path / "local"), open_store(tmp_path / "out")
    assert len(first) == NUM_FILES - 1
    assert second.verify() == []
    assert first.to_pandas().equals(second.to_pandas())
    for name, x in first.items():
        assert second.get(name).numpy().tobytes() == x.numpy().tobytes()
    errors = [(tmp_path / name / "errors.jsonl").read_bytes() for name in ("local", "out")]
    assert errors[0] == errors[1]


def kill_one_actor(process: subprocess.Popen[str], out: Path, mark: str) -> int:
    """Kill an actor once the first shard is there; how many were killed."""
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        # To look through all processes takes a processor that Ray's own could use.
        if any((out / "parts").glob("[!.]*")):
            found = marked_processes(mark, "ShardActor")
            if len(found) == 2:
                os.kill(found[0], signal.SIGKILL)
                return 1
        time.sleep(0.005)
    return 0
