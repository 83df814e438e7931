"""Forecast of a run: its size, its time as measured on seconds of noise, hints on long audio."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence

import torch

from auricle.corpus.reading import utterance_seconds
from auricle.corpus.utterance import Listing
from auricle.errors import AudioError
from auricle.extraction.plan import PlanLimits, Timed, padded_seconds, plan_batches, total_seconds
from auricle.extraction.run import HEADER_THREADS, Progress, Summary
from auricle.extraction.selection import Selection, Windows
from auricle.extraction.sources import compare
from auricle.extraction.worker import Stages
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.store.index import read_part
from auricle.store.writer import StoreWriter

logger = logging.getLogger(__name__)

WARM_UP_SECONDS = 1.0
SHORT_SECONDS = 10.0
LONG_SECONDS = 60.0
"""Lengths of the noise that is timed: from their rates follow both terms of the time."""

NUM_TRIALS = 3
"""The quicker one counts: a machine does other things too."""

NOISE_FACTOR = 1.2
"""By how much a minute's rate has to exceed that of ten seconds to count as attention's work."""

HINT_SECONDS = 600.0
"""Length from which a recording that goes whole through attention is worth a word."""

HINT_FACTOR = 2.0
"""Ratio to the time in windows from which a measurement is believed."""

HINT_WINDOWS = Windows(window_seconds=30.0, overlap_seconds=5.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """Time that an encoder takes for audio: in proportion to the length, and to its square.

    Attributes:
        linear: Seconds for a second of audio.
        quadratic: Seconds for a second of audio squared: attention's part.
    """

    linear: float
    quadratic: float = 0.0

    @classmethod
    def of(cls, selection: Selection, encoder: Encoder, longest: float) -> Rate:
        """Measure it, on noise of at most a minute, for utterances of at most `longest` seconds.

        An encoder whose attention sees pieces of limited length has no quadratic term.
        """
        whole = dataclasses.replace(selection, windows=None)
        short = min(max(longest, WARM_UP_SECONDS), SHORT_SECONDS)
        _seconds(whole, encoder, WARM_UP_SECONDS)
        linear = min(_seconds(whole, encoder, short) for _ in range(NUM_TRIALS)) / short
        if longest <= SHORT_SECONDS or not sees_all(encoder):
            return cls(linear=linear)
        long = min(longest, LONG_SECONDS)
        rate = min(_seconds(whole, encoder, long) for _ in range(NUM_TRIALS)) / long
        if rate < NOISE_FACTOR * linear:
            return cls(linear=linear)
        quadratic = (rate - linear) / (long - short)
        return cls(linear=max(linear - quadratic * short, 0.0), quadratic=quadratic)

    def seconds(self, length: float, windows: Windows | None = None) -> float:
        """Time for audio of a length in seconds, whole or in windows."""
        if windows is None or length <= windows.window_seconds:
            return self.linear * length + self.quadratic * length**2
        step = windows.window_seconds - windows.overlap_seconds
        return length / step * self.seconds(windows.window_seconds)

    def total(self, batches: Iterable[Sequence[Timed]], windows: Windows | None) -> float:
        """Time for batches, with their padding."""
        return sum(
            len(batch) * self.seconds(max(timed.seconds for timed in batch), windows)
            for batch in batches
        )


@dataclasses.dataclass
class LongAudioHint:
    """Says once that a long recording goes whole through attention, and what that costs.

    Attributes:
        selection: What is kept.
        encoder: What encodes.
        is_here: Whether it runs in this process, so that its time can be measured.
        is_given: Whether it has been said.
    """

    selection: Selection
    encoder: Encoder
    is_here: bool
    is_given: bool = False

    def __call__(self, batches: Sequence[Sequence[Timed]]) -> None:
        """Log a line if any utterance of `batches`, which are about to be encoded, deserves it."""
        if self.is_given or self.selection.windows is not None or not sees_all(self.encoder):
            return
        long = [timed for batch in batches for timed in batch if timed.seconds >= HINT_SECONDS]
        if not long:
            return
        self.is_given = True
        longest = max(long, key=lambda timed: timed.seconds)
        costs = "whose time grows with the square of the length"
        instead = "is much quicker"
        if self.is_here:
            rate = Rate.of(self.selection, self.encoder, longest.seconds)
            whole = sum(rate.seconds(timed.seconds) for timed in long)
            windowed = sum(rate.seconds(timed.seconds, HINT_WINDOWS) for timed in long)
            # On a machine that is busy otherwise, a measurement may miss the square.
            if whole >= HINT_FACTOR * windowed:
                costs = f"{costs}: about {span(whole)} here"
                instead = f"takes about {span(windowed)}"
        others = f" and {len(long) - 1} more from {span(HINT_SECONDS)} on" if len(long) > 1 else ""
        logger.warning(
            "%s (%s long)%s goes whole through attention, %s; --window-seconds %g "
            "(window_seconds=%g) %s, and is not exact",
            longest.utterance.id,
            span(longest.seconds),
            others,
            costs,
            HINT_WINDOWS.window_seconds,
            HINT_WINDOWS.window_seconds,
            instead,
        )


def survey(
    listing: Listing,
    writer: StoreWriter,
    selection: Selection,
    encoder: Encoder,
    *,
    num_devices: int | None,
    progress: Progress,
    limits: PlanLimits,
    refresh: bool = False,
) -> Summary:
    """Forecast a run and write nothing: a dry run.

    The lengths of files are measured, and the store's utterances are compared, as in a run.
    Segments of a run that was stopped count as not encoded.

    Args:
        listing: Utterances that the store is to hold, with ids that are unique.
        writer: Writer of the store, which need not be there.
        selection: The arrays that are kept.
        encoder: On a device that is to encode.
        num_devices: Number of devices that encode; None where `encoder` is on none of them, and
            no time is measured.
        progress: Receives how many files have been measured, and what cannot be read.
        limits: Sizes of batches.
        refresh: Whether what has changed would be encoded again; else it is an error.

    Raises:
        OutputError: The store holds other audio under an id.
    """
    parts = ((key, read_part(writer.folder, key).rows) for key in sorted(writer.completed()))
    held = compare(parts, listing.utterances)
    held.report(writer.folder.location, refuses=not refresh)
    new = [utterance for utterance in listing.utterances if utterance.id not in held.kept]
    reasons = [str(problem) for problem in listing.problems]
    timed = []
    lengths = utterance_seconds(new, HEADER_THREADS, listing.known_seconds, progress.measure)
    for utterance, seconds in zip(new, lengths, strict=True):
        if isinstance(seconds, AudioError):
            reasons.append(str(seconds))
        else:
            timed.append(Timed(utterance=utterance, seconds=seconds))
    for reason in reasons:
        progress.fail(reason)
    kept = selection.kept(encoder)
    all_rows = [selection.num_rows(encoder, one.seconds) for one in timed]
    dims = [array.dim for array in kept]
    num_values = sum(n * dim for rows in all_rows for n, dim in zip(rows, dims, strict=True))
    batches = plan_batches(timed, limits.batch_seconds)
    seconds, padded = total_seconds(batches), padded_seconds(batches)
    expected = None
    if timed and num_devices is not None:
        rate = Rate.of(selection, encoder, max(one.seconds for one in timed))
        expected = rate.total(batches, selection.windows) / num_devices
    return Summary(
        num_encoded=len(timed),
        num_before=len(held.kept),
        num_failed=len(reasons),
        num_failed_before=0,
        seconds=seconds,
        example=timed[0].utterance.id if timed else None,
        padding=1 - seconds / padded if padded else 0.0,
        stages=Stages(),
        num_frames=sum(rows[0] for rows in all_rows),
        num_bytes=selection.item_bytes * num_values,
        expected_seconds=expected,
    )


def sees_all(encoder: Encoder) -> bool:
    """True if attention sees an utterance whole, however long, and not in pieces."""
    transformer = getattr(encoder.config, "transformer", None)
    return encoder.looks_ahead and not getattr(transformer, "max_chunk_frames", 0)


def span(seconds: float) -> str:
    """A length of time in words, to two figures or so."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def _seconds(selection: Selection, encoder: Encoder, length: float) -> float:
    """Seconds that an encoder takes for noise of so many."""
    num_samples = max(round(length * SAMPLE_RATE), encoder.min_samples)
    noise = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    selection.run(encoder, [noise])
    return time.perf_counter() - start
