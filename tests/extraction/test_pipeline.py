from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import auricle
from auricle.extraction.pipeline import shielded_from

PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="this system masks no signals"
)

SHIELDED = """
import multiprocessing, os, signal, time
from auricle.extraction.pipeline import shielded_from

if __name__ == "__main__":
    with shielded_from([signal.SIGINT]):
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
        child.start()
    try:
        os.killpg(0, signal.SIGINT)
        time.sleep(300)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    child.join(1)
    print("child is", child.exitcode, flush=True)
    child.kill()
"""

PARENT = """
import multiprocessing, time
from auricle.extraction.pipeline import end_with_parent

def wait():
    end_with_parent()
    print("child", flush=True)
    time.sleep(300)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=wait).start()
    time.sleep(300)
"""
"""A process and its child, neither of which ends within a test's patience."""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    path = folder / "program.py"
    path.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(auricle.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_an_interrupt_reaches_the_run_alone(tmp_path: Path) -> None:
    with start(SHIELDED, tmp_path) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert stdout.splitlines() == ["interrupted", "child is None"]
    assert stderr == ""
    assert process.returncode == 0


def test_what_was_blocked_before_is_blocked_afterwards() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with shielded_from([signal.SIGINT]):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGINT}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    with start(PARENT, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "child\n"
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)  # until both have let go of the pipes
    assert process.returncode == -signal.SIGKILL
