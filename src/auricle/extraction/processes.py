"""Processes that a run starts: they leave Ctrl-C to it, and end when it does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def shielded_from_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started inside, for good.

    A terminal sends it to all processes of a command. The run hears it and ends the others, which
    would each show where they were when it came.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, it would let Ctrl-C through again (CPython until 3.12).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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
