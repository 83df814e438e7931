"""The driver's end of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]


class PeerError(Exception):
    """A worker could not do what it was asked for."""


class Client:
    """A worker process that answers requests.

    Args:
        library: Whose worker.
        python: The interpreter that has the library.
        num_threads: With how many threads it computes.
        scratch: Folder for its log, and for what libraries keep in caches.
    """

    def __init__(self, library: str, python: str, num_threads: int, scratch: Path) -> None:
        self._library = library
        self._log = scratch / f"{library}.log"
        threads = str(num_threads)
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(library),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "AURICLE_CACHE": str(scratch / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [python, "-m", f"peer_workers.{library}_worker", "--threads", threads],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, job: str, **request: Any) -> dict[str, Any]:
        """Answer to a request.

        Raises:
            PeerError: The worker could not do it, or ended.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"job": job, **request}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["silently"]
            raise PeerError(f"{self._library}: the worker ended: {last[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self._library}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def worker(library: str, python: str, num_threads: int, scratch: Path) -> Iterator[Client]:
    """A worker for one job, away from those that are measured."""
    client = Client(library, python, num_threads, scratch)
    try:
        yield client
    finally:
        client.close()


def python_path(library: str) -> str:
    """Environment of the peers' interpreter, without our own import path."""
    ours = os.environ.get("PYTHONPATH") if library == "auricle" else None
    return os.pathsep.join([str(BENCHMARKS), *([ours] if ours else [])])
