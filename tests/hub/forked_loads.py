"""Loads in many processes, killed ones, and those of another user: a program of its own.

It imports once and forks, so that a load takes milliseconds. What is found goes to standard
output as JSON: python forked_loads.py SCENARIO URL CACHE [NUMBER OF KILLS].
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import filelock  # noqa: F401 - what is imported here need not be in every fork
import httpx
import numpy  # noqa: F401
import tqdm  # noqa: F401

import auricle
from auricle.hub import contents, conversions
from auricle.hub.cache import conversions_folder
from auricle.hub.conversions import load_location

SEED = 5
NOBODY = 65534
SOURCE = Path(auricle.__file__).parent
WATCHED = (str(SOURCE / "hub"), str(SOURCE / "files"))
KEEPING = ("_keep",)

httpx.create_ssl_context()


def load_digest(url: str, *, refresh: bool = False) -> list[str | None]:
    """A digest of the weights that came, and the digest of the file that they say to be from."""
    encoder = load_location(url, None, refresh=refresh).build()
    digest = hashlib.sha256()
    for name, weight in encoder.state_dict().items():
        digest.update(name.encode() + weight.numpy().tobytes())
    return [digest.hexdigest(), encoder.info.sha256]


class Fork:
    """Work in a process of its own; `result` waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                result = work()
            except Exception as error:  # whatever it is, the test is to see it
                result = {"error": f"{type(error).__name__}: {error}"}
            os.write(writing, json.dumps(result).encode())
            os._exit(0)
        os.close(writing)

    def result(self) -> Any:
        with os.fdopen(self._reading) as pipe:
            text = pipe.read()
        os.waitpid(self.pid, 0)
        return json.loads(text) if text else None


def count_lines(
    work: Callable[[], Any], kill_at: int | None, functions: Collection[str] = ()
) -> int:
    """Lines of the hub's code that `work` runs; at `kill_at` of them the process dies.

    With `functions` only those of functions of these names count.
    """
    count = 0

    def trace_lines(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace_lines

    def trace_calls(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        counts = not functions or code.co_name in functions
        return trace_lines if counts and code.co_filename.startswith(WATCHED) else None

    sys.settrace(trace_calls)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def killed(url: str, cache: Path, num_moments: str) -> Any:
    """Loads killed at random moments, each followed by loads that must give what was served."""
    generator = random.Random(SEED)
    served = [Fork(lambda: load_digest(url, refresh=True)).result() for _ in range(2)]
    started = time.monotonic()
    num_lines = Fork(lambda: count_lines(lambda: load_digest(url, refresh=True), None)).result()
    seconds = (time.monotonic() - started) / 2  # watching the lines takes time
    outcomes = []
    for moment in range(int(num_moments)):
        if moment % 5 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        refresh = generator.random() < 0.7
        if moment % 3 == 0:
            fork = Fork(lambda: load_digest(url, refresh=refresh))  # noqa: B023 - used at once
            time.sleep(generator.uniform(0, seconds))
            os.kill(fork.pid, signal.SIGKILL)
        else:
            line = generator.randint(1, num_lines)
            fork = Fork(lambda: count_lines(lambda: load_digest(url, refresh=refresh), line))  # noqa: B023
        outcomes.append(outcome_of(fork, url))
    return {"served": served, "num_lines": num_lines, "outcomes": outcomes}


def outcome_of(fork: Fork, url: str) -> Any:
    """What a load that may have been killed left, and what later loads give."""
    survived = fork.result() is not None
    names = sorted({item.name for item in contents.items()})
    findings = list(contents.verify(names)) if names else []
    loads = Fork(lambda: [load_digest(url), load_digest(url)]).result()
    return {
        "survived": survived,
        "changed": [str(finding) for finding in findings if finding.state == "changed"],
        "loads": loads,
        "left": sorted(path.name for path in conversions_folder().glob("*")),
    }


def killed_keeping(url: str, cache: Path) -> Any:
    """Refreshes killed at each line of the functions that put files and notes in their places."""

    def refreshed(kill_at: int | None) -> Fork:
        for part in cache.rglob(
            "*.part*"
        ):  # so that each refresh asks once, and gets the other file
            part.unlink()
        Fork(lambda: load_digest(url, refresh=True)).result()
        return Fork(lambda: count_lines(lambda: load_digest(url, refresh=True), kill_at, KEEPING))

    served = [Fork(lambda: load_digest(url, refresh=True)).result() for _ in range(2)]
    num_lines = refreshed(None).result()
    outcomes = [outcome_of(refreshed(line), url) for line in range(1, num_lines + 1)]
    return {"served": served, "outcomes": outcomes}


def many(url: str, cache: Path) -> Any:
    """Twenty loads at once, and how many of them wrote a conversion."""
    write = conversions.write_native
    written = cache.parent / "written"

    def counted(*arguments: Any) -> None:
        with written.open("a") as file:
            file.write("x")
        write(*arguments)

    conversions.write_native = counted
    forks = [Fork(lambda: load_digest(url)) for _ in range(20)]
    return {"loads": [fork.result() for fork in forks], "written": len(written.read_text())}


def as_other_user(work: Callable[[], Any]) -> Any:
    """The result of `work`, and what it warned of, by one who may only read the cache."""

    def change_user_and_work() -> Any:
        warnings: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("auricle").addHandler(handler)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            return {"result": work(), "warnings": warnings}
        except auricle.AuricleError as error:
            return {"error": str(error), "warnings": warnings}

    return Fork(change_user_and_work).result()


def read_only(url: str, cache: Path) -> Any:
    """Loads from a cache that belongs to somebody else: converted, original only, not there."""

    def lock_all(folder_mode: int) -> None:
        for path in (cache, *cache.rglob("*")):
            path.chmod(folder_mode if path.is_dir() else 0o444)

    found = {"own": Fork(lambda: load_digest(url)).result()}
    lock_all(0o555)
    found["converted"] = as_other_user(lambda: load_digest(url))
    found["missing"] = as_other_user(lambda: load_digest(f"{url}?other"))
    found["refreshed"] = as_other_user(lambda: load_digest(url, refresh=True))
    lock_all(0o755)
    for item in contents.items():
        if item.kind == "converted":
            contents.remove(item)
    lock_all(0o555)
    found["original"] = as_other_user(lambda: load_digest(url))
    lock_all(0o755)
    return found


if __name__ == "__main__":
    scenario = {
        "killed": killed,
        "killed_keeping": killed_keeping,
        "many": many,
        "read_only": read_only,
    }[sys.argv[1]]
    print(json.dumps(scenario(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])))
