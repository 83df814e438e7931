"""Progress bars and log lines of an extraction, on standard error; its summary."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

from auricle.extraction.forecast import span
from auricle.extraction.run import Summary

BYTES_PER_MIB = 1 << 20

LINE_SECONDS = 60.0
"""Interval of log lines without a terminal."""

COUNT = "{n:.0f} s of audio [{elapsed}{postfix}]"
BAR = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}{postfix}]"


class ProgressBars:
    """Progress bars if standard error is a terminal, else a log line per minute; failures as lines.

    A thread writes the log lines, also while a long recording is encoded.
    """

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._start: float | None = None
        self._state = ""
        self._seconds = 0.0
        self._all_seconds: float | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._print_lines, name="auricle-log", daemon=True)

    @property
    def elapsed(self) -> float:
        """Seconds since encoding began, after listing, measuring and loading."""
        return 0.0 if self._start is None else time.perf_counter() - self._start

    def __enter__(self) -> ProgressBars:
        if not sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._start is not None and error is not None:
            notes = getattr(error, "__notes__", ["run the same command to resume"])
            print("; ".join(["stopped", *notes]), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def measure(self, num_done: int, num_all: int) -> None:
        """Show a progress bar of the files whose durations are measured."""
        self._state = f"measured {num_done:,} of {num_all:,} files"
        if self._bar is None:
            self._bar = tqdm(
                total=num_all, desc="measuring", unit="file", disable=None, leave=False
            )
        self._bar.update(num_done - self._bar.n)

    def start(self, seconds: float | None, num_utterances: int | None) -> None:
        """Show a progress bar of seconds, or a counter if the total is unknown."""
        self._close()
        self._start = time.perf_counter()
        self._all_seconds = seconds
        bar_format = BAR if seconds is not None else COUNT
        self._bar = tqdm(total=seconds, bar_format=bar_format, disable=None, leave=False)

    def advance(self, seconds: float) -> None:
        """Advance the progress bar."""
        self._seconds += seconds
        if self._bar is not None:
            self._bar.update(seconds)

    def fail(self, reason: str) -> None:
        """Print a failure."""
        tqdm.write(f"auricle: error: {reason}", file=sys.stderr)

    def _print_lines(self) -> None:
        while not self._is_over.wait(LINE_SECONDS):
            if line := self.line():
                print(f"auricle: {line}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """Format the progress of the run; empty before it begins."""
        if self._start is None:
            return self._state
        rate = self._seconds / max(self.elapsed, 1e-9)
        hours = f"{self._seconds / 3600:.2f}"
        if self._all_seconds is None:
            return f"encoded {hours} h of audio in {span(self.elapsed)}, {rate:.1f} x real time"
        share = self._seconds / self._all_seconds if self._all_seconds else 1.0
        left = (self._all_seconds - self._seconds) / rate if rate else None
        remaining = "remaining time unknown" if left is None else f"about {span(left)} left"
        return (
            f"encoded {hours} of {self._all_seconds / 3600:.2f} h of audio ({100 * share:.0f} %) "
            f"in {span(self.elapsed)}, {rate:.1f} x real time, {remaining}"
        )


def print_json(summary: Summary, out: str, elapsed: float) -> None:
    """Print all numbers of a run, or of a dry run, as an object of JSON."""
    print(
        json.dumps(
            {
                "out": out,
                "elapsed_seconds": elapsed,
                "waiting": summary.stages.waiting,
                **dataclasses.asdict(summary),
            },
            indent=2,
        )
    )


def print_forecast(summary: Summary, out: str) -> None:
    """Print the estimate of a dry run."""
    print(
        f"dry run: would write {summary.num_encoded} utterances to {out}; {summary.num_before} "
        f"already present; {summary.num_failed} unreadable"
    )
    if summary.num_encoded:
        expected = summary.expected_seconds
        takes = "not estimated" if expected is None else f"about {span(expected)}"
        print(
            f"{summary.seconds / 3600:.2f} h of audio, {summary.num_frames:,} frames per layer, "
            f"{summary.num_bytes / BYTES_PER_MIB:,.1f} MiB; time: {takes}"
        )


def print_summary(summary: Summary, arguments: argparse.Namespace, elapsed: float) -> None:
    """Print the number of utterances, the throughput with its bottleneck, and how to read them."""
    out = arguments.out
    folder = out.rstrip("/")
    num_all = summary.num_encoded + summary.num_failed
    parts = [f"wrote {summary.num_encoded} of {num_all} utterances to {out}"]
    if not num_all:
        parts = [f"no new utterances for {out}"]
    if summary.num_before:
        parts.append(f"{summary.num_before} already present")
    if summary.num_failed:
        parts.append(f"{summary.num_failed} failed, see {folder}/errors.jsonl")
    if summary.num_failed_before:
        again = f", remove {folder}/streams.json to retry them" if arguments.streaming else ""
        parts.append(f"{summary.num_failed_before} failed in earlier runs{again}")
    print("; ".join(parts))
    if summary.num_encoded:
        print(
            f"{summary.seconds:.1f} s of audio in {elapsed:.1f} s, {summary.seconds / elapsed:.1f} "
            f"x real time; {100 * summary.padding:.1f} % padding; {summary.stages.summary}"
        )
        print(f"read them in Python: auricle.open({out!r})[{summary.example!r}]")
    if arguments.format == "text":
        print(f"as text: {folder}/{'codes' if arguments.codes else 'units'}.txt")
