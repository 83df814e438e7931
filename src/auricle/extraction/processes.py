"""Processes that a run starts: they leave signals to it, and end when it does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def shielded_from(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Keep signals from the processes that are started inside, for good.

    A terminal sends SIGINT to all processes of a command, and a scheduler SIGTERM. The run hears
    it, flushes what is encoded, and ends the others, which would each show where they were.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, it would let Ctrl-C through again (CPython until 3.12).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signals))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this process leave nothing running where the one that started it is killed."""
    threading.Thread(target=_end_with_parent, name="auricle-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
