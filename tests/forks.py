"""Python processes in milliseconds: forks of one server that has imported torch and the library.

They are `python ARGUMENTS` in all else: arguments, environment, working directory, a session of
their own, pipes that end once no process holds them, exit statuses, signals. What they do not show
is an import that is missing or slow, or how the interpreter starts and ends; tests of that start
`sys.executable`.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

PRELOADED = ["forks_preload"]


def server_context() -> ForkServerContext:
    """The context of processes that are forks of the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # The server ignores this process's sys.path (CPython until 3.13), and what it cannot import.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    return context


class Forked:
    """A running `python ARGUMENTS`, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> None:
        context = server_context()
        streams = [context.Pipe(duplex=False) for _ in range(3)]
        started, *self._outputs = [reader for reader, _ in streams]
        writers = [writer for _, writer in streams]
        words = [str(word) for word in arguments]
        environment = dict(os.environ if env is None else env)
        work = (words, environment, str(cwd or Path.cwd()), *writers)
        self._process = context.Process(target=_run, args=work)
        self._process.start()
        for writer in writers:
            writer.close()
        assert started.recv_bytes() == b"started"
        started.close()
        self._texts = ["", ""]
        self._readers = [
            threading.Thread(target=self._read, args=(index,), daemon=True) for index in range(2)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, index: int) -> None:
        with open(os.dup(self._outputs[index].fileno()), encoding="utf-8") as file:  # noqa: PTH123
            self._texts[index] = file.read()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("forked python", timeout or 0)
        return self.returncode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What was written to standard output and standard error, once nobody can write any more."""
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("forked python", timeout or 0)
        self.wait(timeout)
        return self._texts[0], self._texts[1]

    def close(self) -> None:
        """Kill it and all of its session."""
        # All gone, where that fails; macOS refuses to signal what has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()
        for reader in self._readers:
            reader.join()
        for output in self._outputs:
            output.close()


def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, *arguments], capture_output=True, text=True)`."""
    process = Forked(arguments, env=env, cwd=cwd)
    try:
        stdout, stderr = process.communicate(timeout)
        return subprocess.CompletedProcess([*arguments], process.wait(timeout), stdout, stderr)
    finally:
        process.close()


def _run(
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
    started: Connection,
    stdout: Connection,
    stderr: Connection,
) -> None:
    assert PRELOADED[0] in sys.modules, "the server cannot import what it should"
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")  # type: ignore[assignment]
    sys.stderr = io.TextIOWrapper(  # type: ignore[assignment]
        io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True
    )
    for stream in (stdout, stderr):
        stream.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    started.send_bytes(b"started")
    started.close()
    try:
        option, *rest = arguments
        if option == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(option).parent))
            runpy.run_path(option, run_name="__main__")
    finally:
        sys.stdout.flush()
