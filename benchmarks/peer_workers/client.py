"""The driver's end of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peer_workers.models import precision_of, worker_of

BENCHMARKS = Path(__file__).parents[1]
LIMIT_SECONDS = 300.0
"""Time for an answer."""

CLOSE_SECONDS = 20.0
"""Time in which a worker that has nothing more to do ends by itself."""

LOOK_SECONDS = 0.1
"""How often the driver looks whether a worker that gives no answer is alive."""


class PeerError(Exception):
    """A worker could not do what it was asked for."""


class Client:
    """A worker process that answers requests, each within a time; after its end a new one starts.

    Args:
        library: Whose worker.
        python: The interpreter that has the library.
        num_threads: With how many threads it computes.
        scratch: Folder for its log, and for what libraries keep in caches.
        limit_seconds: Time for an answer; a worker that takes longer is ended, and what it started.
        checkpoint: What it loads before anything else; None for nothing.
    """

    def __init__(
        self,
        library: str,
        python: str,
        num_threads: int,
        scratch: Path,
        *,
        limit_seconds: float = LIMIT_SECONDS,
        checkpoint: str | None = None,
    ) -> None:
        self._library = library
        self._command = [python, "-m", f"peer_workers.{worker_of(library)}_worker"]
        self._command += ["--threads", str(num_threads)]
        self._log = scratch / f"{library}.log"
        self._limit_seconds = limit_seconds
        self._checkpoint = checkpoint
        self._environment = {
            **os.environ,
            "PYTHONPATH": python_path(library),
            "OMP_NUM_THREADS": str(num_threads),
            "MKL_NUM_THREADS": str(num_threads),
            "AURICLE_CACHE": str(scratch / "cache"),
            # Nothing is downloaded: a library that tried would wait for a network, again and again.
            "HF_HUB_OFFLINE": "1",
        }
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, job: str, **request: Any) -> dict[str, Any]:
        """Answer to a request.

        Raises:
            PeerError: The worker could not do it, ended, or took too long.
        """
        if self._process is None:
            self._start()
            if self._checkpoint is not None:
                self._load(self._checkpoint)
        return self._ask({"job": job, **request})

    def close(self) -> None:
        """Let the process end, or end it, with all that it has started."""
        if self._process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self._kill()

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # one group, so that its children can be ended with it
            )
        self._answers = queue.Queue()
        threading.Thread(
            target=pass_on, args=(self._process.stdout, self._answers), daemon=True
        ).start()

    def _load(self, checkpoint: str) -> None:
        """Load a model; a worker that cannot is of no use."""
        precision = precision_of(self._library)
        try:
            self._ask({"job": "load", "checkpoint": checkpoint, "precision": precision})
        except PeerError:
            self.close()
            raise

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._answer()
        if line is None:
            self._kill()
            raise PeerError(
                f"{self._library}: no answer to `{request['job']}` in {self._limit_seconds:g} s"
            )
        if not line:
            self._kill()
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["silently"]
            raise PeerError(f"{self._library}: the worker ended: {last[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self._library}: {answer['error']}")
        return answer

    def _answer(self) -> str | None:
        """The next line; empty if the worker has ended, None if it takes too long."""
        end = time.monotonic() + self._limit_seconds
        while (left := end - time.monotonic()) > 0:
            # Of a dead worker the pipe stays open for as long as a child of it lives.
            has_ended = self._process.poll() is not None
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=min(left, LOOK_SECONDS))
            if has_ended:
                return ""
        return None

    def _kill(self) -> None:
        """End the process and all of its group; the next request starts another one."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process = None


def pass_on(lines: Any, answers: queue.Queue[str]) -> None:
    """Put lines into a queue, and an empty one after the last."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")


@contextlib.contextmanager
def worker(
    library: str, python: str, num_threads: int, scratch: Path, **more: Any
) -> Iterator[Client]:
    """A worker, which ends with the block."""
    client = Client(library, python, num_threads, scratch, **more)
    try:
        yield client
    finally:
        client.close()


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def python_path(library: str) -> str:
    """Environment of the peers' interpreter, without our own import path."""
    ours = os.environ.get("PYTHONPATH") if worker_of(library) == "auricle" else None
    return os.pathsep.join([str(BENCHMARKS), *([ours] if ours else [])])
