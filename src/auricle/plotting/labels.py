"""Files of labelled stretches, such as phones: tab-separated text, NIST's CTM, Praat's TextGrid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from auricle.errors import AudioError
from auricle.optional import optional
from auricle.plotting.utterance import Segment

CTM_COLUMNS = 5
"""Utterance, channel, start, duration, label; a confidence may follow."""

PHONE_TIERS = ("phones", "phone", "phonemes")
"""Names of the tier that is taken of a TextGrid which has several, without regard to case."""

MAX_OVERHANG_SECONDS = 1.0
"""By how much labels may reach behind the end of a recording; more is a mistake."""

FORMATS = (
    "expected lines of start, end and label with tabs between them (seconds; as Audacity exports "
    "them), a .ctm of one utterance, or a .TextGrid"
)


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The labelled stretches of one utterance, in the order of the file.

    The ending tells the format: `.TextGrid` is Praat's (the tier called phones, or else the first
    one), `.ctm` is NIST's, anything else tab-separated text, start and end in seconds and label.

    Raises:
        AudioError: The file cannot be read or is none of these; the message names the line.
        MissingExtraError: A TextGrid needs praatio, which is not installed.
    """
    try:
        if path.suffix.lower() == ".textgrid":
            return _read_textgrid(path)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AudioError(
            f"cannot open {path}: {error.strerror}; check the path of the labels"
        ) from error
    except UnicodeDecodeError as error:
        raise AudioError(f"{path} is no text in UTF-8: {FORMATS}") from error
    parse = _parse_ctm if path.suffix.lower() == ".ctm" else _parse_tabs
    segments = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith((";;", "#")) or _is_header(number, line):
            continue
        try:
            segments.append(parse(line))
        except ValueError as error:
            raise AudioError(f"{path}, line {number}: {error}; {FORMATS}") from error
    if not segments:
        raise AudioError(f"{path} holds no labels: {FORMATS}")
    return tuple(segments)


def check_segments(segments: Iterable[Segment], seconds: float) -> None:
    """Refuse labels that are not of a recording of so many seconds.

    Raises:
        AudioError: They reach far behind its end, as those in milliseconds do.
    """
    last = max((one.end for one in segments), default=0.0)
    if last > seconds + MAX_OVERHANG_SECONDS:
        raise AudioError(
            f"the labels reach {last:g} s, but the recording ends at {seconds:g} s: pass those of "
            "this recording, with times in seconds"
        )


def _is_header(number: int, line: str) -> bool:
    return number == 1 and line.lower().split("\t")[:2] == ["start", "end"]


def _parse_tabs(line: str) -> Segment:
    fields = line.split("\t")
    if len(fields) == 1 and len(line.split()) > 2:
        raise ValueError("got blanks between the fields")
    if len(fields) != 3:
        raise ValueError(f"got {len(fields)} fields")
    return _segment(float(fields[0]), float(fields[1]), fields[2])


def _parse_ctm(line: str) -> Segment:
    fields = line.split()
    if len(fields) < CTM_COLUMNS:
        raise ValueError(f"got {len(fields)} fields of {CTM_COLUMNS}")
    start = float(fields[2])
    return _segment(start, start + float(fields[3]), fields[4])


def _segment(start: float, end: float, label: str) -> Segment:
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
        raise ValueError(f"got a stretch from {start:g} to {end:g} s")
    return Segment(start=start, end=end, label=label.strip())


def _read_textgrid(path: Path) -> tuple[Segment, ...]:
    with optional("praatio", "reading a TextGrid"):
        from praatio import textgrid
        from praatio.utilities.errors import PraatioException
    if not path.is_file():
        raise AudioError(f"cannot open {path}: there is no such file; check the path of the labels")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except (PraatioException, ValueError, IndexError, KeyError) as error:
        raise AudioError(f"{path} is no TextGrid that praatio reads: {error}") from error
    tiers = [tier for tier in grid.tiers if isinstance(tier, textgrid.IntervalTier)]
    if not tiers:
        raise AudioError(f"{path} has no tier of intervals")
    tier = next((tier for tier in tiers if tier.name.lower() in PHONE_TIERS), tiers[0])
    return tuple(_segment(entry.start, entry.end, entry.label) for entry in tier.entries)
