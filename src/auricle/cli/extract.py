"""`auricle extract`: representations of a corpus, with a bar while it goes on."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from auricle.cli.encoders import choose_model, layer_argument
from auricle.cli.folders import check_folder
from auricle.corpora import Layers, extract
from auricle.errors import AuricleError
from auricle.extraction.forecast import span
from auricle.extraction.run import Summary

BYTES_PER_MIB = 1 << 20
LINE_SECONDS = 60.0
"""Time between two lines where there is no bar."""

COUNT = "{n:.0f} s of audio [{elapsed}{postfix}]"
BAR = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}{postfix}]"


class Progress:
    """Bars on standard error where that is a terminal, else a line a minute; a line for a failure.

    Lines come from a thread, so that a log goes on while a long recording is encoded.
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
        """Seconds since the work began: listing, measuring and loading are over by then."""
        return 0.0 if self._start is None else time.perf_counter() - self._start

    def __enter__(self) -> Progress:
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
            notes = getattr(error, "__notes__", ["the same command goes on where this one was"])
            print("; ".join(["stopped", *notes]), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def measure(self, num_done: int, num_all: int) -> None:
        """Show a bar of the files that are looked at for their lengths."""
        self._state = f"measured {num_done:,} of {num_all:,} files"
        if self._bar is None:
            self._bar = tqdm(
                total=num_all, desc="measuring", unit="file", disable=None, leave=False
            )
        self._bar.update(num_done - self._bar.n)

    def start(self, seconds: float | None, num_utterances: int | None) -> None:
        """Show a bar of seconds, or a count where nobody knows how much there is."""
        self._close()
        self._start = time.perf_counter()
        self._all_seconds = seconds
        bar_format = BAR if seconds is not None else COUNT
        self._bar = tqdm(total=seconds, bar_format=bar_format, disable=None, leave=False)

    def advance(self, seconds: float) -> None:
        """Move the bar."""
        self._seconds += seconds
        if self._bar is not None:
            self._bar.update(seconds)

    def fail(self, reason: str) -> None:
        """Report a failure in a line."""
        tqdm.write(f"auricle: error: {reason}", file=sys.stderr)

    def _print_lines(self) -> None:
        while not self._is_over.wait(LINE_SECONDS):
            if line := self.line():
                print(f"auricle: {line}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """How far the run has come, in a line; "" where it has not begun."""
        if self._start is None:
            return self._state
        rate = self._seconds / max(self.elapsed, 1e-9)
        hours = f"{self._seconds / 3600:.2f}"
        if self._all_seconds is None:
            return f"encoded {hours} h of audio in {span(self.elapsed)}, {rate:.1f} x real time"
        share = self._seconds / self._all_seconds if self._all_seconds else 1.0
        left = (self._all_seconds - self._seconds) / rate if rate else None
        remaining = "the rest is not known yet" if left is None else f"about {span(left)} left"
        return (
            f"encoded {hours} of {self._all_seconds / 3600:.2f} h of audio ({100 * share:.0f} %) "
            f"in {span(self.elapsed)}, {rate:.1f} x real time, {remaining}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Extract as the arguments say; the status is 1 if something failed.

    Raises:
        AuricleError: Nothing can be extracted, or nothing more can be written.
    """
    _check(arguments)
    if "://" not in arguments.out:
        check_folder(Path(arguments.out))
    choose_model(arguments)
    with Progress() as progress:
        summary = extract(
            arguments.inputs,
            arguments.out,
            model=arguments.model,
            checkpoint=arguments.checkpoint,
            config=arguments.config,
            refresh=arguments.refresh,
            precision=arguments.precision,
            devices=() if arguments.device == ["auto"] else arguments.device,
            layers=_layers(arguments.layer),
            weights=arguments.weights,
            pool=arguments.pool,
            codes=arguments.codes,
            dtype=arguments.dtype,
            output_format=arguments.format,
            input_format=arguments.input_format,
            root=arguments.root,
            streaming=arguments.streaming,
            channel=arguments.channel,
            ids=arguments.ids,
            window_seconds=arguments.window_seconds,
            overlap_seconds=arguments.overlap_seconds,
            short=arguments.short,
            on_error=arguments.on_error,
            batch_seconds=arguments.batch_seconds,
            shard_bytes=round(arguments.shard_mib * BYTES_PER_MIB),
            num_workers=arguments.workers,
            engine=arguments.engine,
            address=arguments.address,
            num_actors=arguments.actors,
            flush_seconds=arguments.flush_seconds,
            dry_run=arguments.dry_run,
            progress=progress,
        )
    if arguments.dry_run:
        _forecast(summary, arguments.out)
        return 1 if summary.num_failed else 0
    _report(summary, arguments, progress.elapsed)
    # Rows of a stream that failed are not tried again, and must not look as if they had not.
    is_short_of = summary.num_failed or (arguments.streaming and summary.num_failed_before)
    return 1 if is_short_of else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise AuricleError where options contradict each other."""
    if arguments.codes and arguments.layer is not None:
        raise AuricleError("--codes come from the quantiser's own layer; leave --layer out")
    if arguments.engine == "local" and (arguments.address or arguments.actors):
        raise AuricleError("--address and --actors go with --engine ray; add it or leave them out")
    if arguments.engine == "ray" and arguments.device != ["auto"]:
        raise AuricleError("--engine ray takes the cluster's own devices; leave --device out")


def _layers(words: list[str] | None) -> Layers | None:
    if words is None or words == ["all"]:
        return None if words is None else "all"
    return [layer for word in words if (layer := layer_argument(word)) is not None]


def _forecast(summary: Summary, out: str) -> None:
    """Say what a run would do."""
    frames = f"{summary.num_frames:,} frames"
    print(
        f"would write {summary.num_encoded} utterances to {out}; {summary.num_before} are there "
        f"already; {summary.num_failed} cannot be read"
    )
    if summary.num_encoded:
        expected = summary.expected_seconds
        takes = "a time that was not measured" if expected is None else f"about {span(expected)}"
        print(
            f"{summary.seconds / 3600:.2f} h of audio, {frames} a layer, "
            f"{summary.num_bytes / BYTES_PER_MIB:,.1f} MiB, in {takes}; nothing was written"
        )


def _report(summary: Summary, arguments: argparse.Namespace, elapsed: float) -> None:
    """Say what was done, what bound the run, and how to read what is there."""
    out = arguments.out
    num_all = summary.num_encoded + summary.num_failed
    parts = [f"wrote {summary.num_encoded} of {num_all} utterances to {out}"]
    if not num_all:
        parts = [f"nothing is new for {out}"]
    if summary.num_before:
        parts.append(f"{summary.num_before} were there before")
    if summary.num_failed:
        parts.append(f"{summary.num_failed} failed, see errors.jsonl there")
    if summary.num_failed_before:
        again = "; remove streams.json there to try them again" if arguments.streaming else ""
        parts.append(f"{summary.num_failed_before} failed in earlier runs{again}")
    print("; ".join(parts))
    if summary.num_encoded:
        print(
            f"{summary.seconds:.1f} s of audio in {elapsed:.1f} s, {summary.seconds / elapsed:.1f} "
            f"x real time; {100 * summary.padding:.1f} % padding; {summary.stages.summary}"
        )
        print(f"read them by id: auricle.open({out!r})[{summary.example!r}]")
