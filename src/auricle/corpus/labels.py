"""Label files, such as phone alignments: tab-separated text, NIST's CTM, Praat's TextGrid."""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from auricle.audio.inputs import AUDIO_SUFFIXES
from auricle.corpus.utterance import Segment
from auricle.errors import AudioError, AuricleError
from auricle.optional import optional

CTM_COLUMNS = 5
"""Utterance, channel, start, duration, label; a confidence may follow."""

CTM_CHANNELS = (("1", "A"), ("2", "B"))
"""Names of a channel in a CTM, those of the first one first; some count from "0"."""

KINDS = (
    frozenset({"phones", "phone", "phonemes", "phoneme", "phons", "phon", "segments"}),
    frozenset({"words", "word"}),
)
"""Lower-case words by which one tier of a TextGrid is chosen, phones before words. The tier's name
may also hold that of the speaker, as the Montreal Forced Aligner writes it."""

WEBMAUS_TIERS = ("mau", "ort-mau")
"""Names of WebMAUS for tiers of each kind."""

TIER_WORD = re.compile(r"[^\W_]+")

MAX_OVERHANG_SECONDS = 1.0
"""Most by which labels may exceed the end of a recording."""

ROUNDING_SECONDS = 1e-3
"""Most by which times that were written with two or three decimals differ by rounding."""

TIME_DECIMALS = 9
"""Decimals of a sum of times: that of 0.81 and 0.06 is 0.87, not 0.8700000000000001."""

MAX_NAMES = 8
"""Most names that a message lists."""

_LabelRow: TypeAlias = tuple[tuple[str, str], Segment]
"""A labelled segment with the names of its utterance and channel, "" without one."""

KALDI_FORMAT = (
    "expected lines of an utterance and one id for each of its frames, as Kaldi's ali-to-phones "
    "writes them to ark,t: with its option per-frame=true"
)

FORMATS = (
    "expected lines of start, end and label with tabs between them (seconds; as Audacity exports "
    "them), a .ctm, or a .TextGrid"
)


def read_segments(
    path: Path, recording: str | None = None, *, channel: int | None = None, tier: str | None = None
) -> tuple[Segment, ...]:
    """Read the labelled segments of one utterance, in the order of the file.

    The suffix decides the format: `.TextGrid` is Praat's (the tier of phones, or else of words),
    `.ctm` is NIST's, anything else tab-separated text, start and end in seconds and label.

    Args:
        path: The file.
        recording: Name of the audio file, by which the utterance of a CTM of many is found; None
            for the name of the CTM itself.
        channel: Which of a CTM's channels, counted from 0.
        tier: Name of a tier or of a speaker of a TextGrid, of an utterance of a CTM, or of its
            utterance and channel with a space between them; None to choose by `KINDS`.

    Raises:
        AudioError: The file cannot be read or has none of these formats (the message names
            the line), or holds several utterances, channels, tiers or speakers and none is chosen.
        MissingExtraError: A TextGrid needs praatio, which is not installed.
    """
    if _suffix(path) == ".textgrid":
        chosen = _choose_tier(_read_textgrid(path), path, tier)
        return tuple(_segment(one.start, one.end, one.label) for one in chosen.entries)
    rows = _read_rows(path)
    if tier is not None and _suffix(path) != ".ctm":
        raise AudioError(f"{path} has no tiers: choose one of a .TextGrid or a .ctm only")
    found = _choose_rows(rows, path, recording or path.stem, channel, tier)
    return tuple(segment for _, segment in found)


def read_alignments(path: Path, frame_shift_seconds: float) -> dict[str, tuple[Segment, ...]]:
    """Read the labelled segments of many utterances, by the names that the file gives them.

    A `.ctm` is NIST's. Anything else is text of Kaldi's, `utterance id id id ...` with one id for
    each frame: frame k lasts from k to k + 1 times the frame shift, and a run of one id is one
    segment. Both may be compressed (`.gz`).

    Raises:
        AudioError: The file cannot be read, has neither format (the message names the line), names
            an utterance twice, or has several channels of one.
    """
    if _suffix(path) != ".ctm":
        return _read_kaldi(path, frame_shift_seconds)
    found: dict[str, list[Segment]] = {}
    sides: dict[str, str] = {}
    for (name, side), segment in _read_rows(path):
        if sides.setdefault(name, side) != side:
            raise AudioError(
                f"{path} has the channels {sides[name]!r} and {side!r} of {name}: write those of "
                "one channel into a file of their own"
            )
        found.setdefault(name, []).append(segment)
    return {name: tuple(segments) for name, segments in found.items()}


def _read_kaldi(path: Path, shift: float) -> dict[str, tuple[Segment, ...]]:
    found: dict[str, tuple[Segment, ...]] = {}
    for number, line in enumerate(_text_of(path, KALDI_FORMAT).splitlines(), start=1):
        name, *frames = line.split() or [""]
        if not name:
            continue
        if not frames or ";" in frames or name in found:
            got = "the same utterance again" if name in found else f"{line[:60]!r}"
            raise AudioError(f"{path}, line {number}: got {got}; {KALDI_FORMAT}")
        segments, place = [], 0
        for label, run in groupby(frames):
            end = place + sum(1 for _ in run)
            start, stop = (round(edge * shift, TIME_DECIMALS) for edge in (place, end))
            segments.append(Segment(start=start, end=stop, label=label))
            place = end
        found[name] = tuple(segments)
    if not found:
        raise AudioError(f"{path} holds no labels: {KALDI_FORMAT}")
    return found


def check_labels(path: Path) -> None:
    """Check that a label file can be read, without choosing among its tiers.

    Raises:
        AudioError: As `read_segments`.
        MissingExtraError: As `read_segments`.
    """
    if _suffix(path) == ".textgrid":
        _read_textgrid(path)
    else:
        _read_rows(path)


def _suffix(path: Path) -> str:
    """The suffix of a name in lower case, without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _text_of(path: Path, expected: str) -> str:
    """The text of a file, unpacked where its name ends in .gz.

    Raises:
        AudioError: It cannot be read, or is no text in UTF-8.
    """
    try:
        data = path.read_bytes()
        packed = path.name.lower().endswith(".gz")
        return (gzip.decompress(data) if packed else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AudioError(f"{path} is no text in UTF-8: {expected}") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot open {path}: {reason}; check the path of the labels") from error


def _read_rows(path: Path) -> list[_LabelRow]:
    parse = _parse_ctm if _suffix(path) == ".ctm" else _parse_tabs
    rows = []
    for number, line in enumerate(_text_of(path, FORMATS).splitlines(), start=1):
        if not line.strip() or line.startswith((";;", "#")) or _is_header(number, line):
            continue
        try:
            rows.append(parse(line))
        except ValueError as error:
            raise AudioError(f"{path}, line {number}: {error}; {FORMATS}") from error
    if not rows:
        raise AudioError(f"{path} holds no labels: {FORMATS}")
    return rows


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a tab-separated table of labels, each with at least `columns`.

    The first line names the columns; their case and blanks do not count.

    Raises:
        AuricleError: The table is missing or unreadable, has no rows, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = list(reader)
    except OSError as error:
        raise AuricleError(
            f"cannot open {path}: {error.strerror}; check the path of the labels"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AuricleError(f"{path} is no table: {error}; expected tab-separated UTF-8") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise AuricleError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(header)}"
        )
    if not rows:
        raise AuricleError(f"{path} has no rows below its header")
    for number, row in enumerate(rows, start=2):
        if any(not row[column] for column in columns):
            raise AuricleError(f"{path}, line {number}: expected a value in {', '.join(columns)}")
    return rows


def exceeds(time: float, limit: float) -> bool:
    """True if a time in seconds is above a limit by more than rounding (`ROUNDING_SECONDS`)."""
    return round(time - limit, TIME_DECIMALS) > ROUNDING_SECONDS


def check_segments(segments: Iterable[Segment], seconds: float) -> None:
    """Check that labels fit a recording of the given duration.

    Raises:
        AudioError: They exceed its end by far, as labels in milliseconds do.
    """
    last = max((one.end for one in segments), default=0.0)
    if last > seconds + MAX_OVERHANG_SECONDS:
        raise AudioError(
            f"the labels reach {last:g} s, but the recording ends at {seconds:g} s: pass those of "
            "this recording, with times in seconds"
        )


def _is_header(number: int, line: str) -> bool:
    return number == 1 and line.lower().split("\t")[:2] == ["start", "end"]


def _parse_tabs(line: str) -> _LabelRow:
    fields = line.split("\t")
    if len(fields) == 1 and len(line.split()) > 2:
        raise ValueError("got blanks between the fields")
    if len(fields) != 3:
        raise ValueError(f"got {len(fields)} fields")
    return ("", ""), _segment(float(fields[0]), float(fields[1]), fields[2])


def _parse_ctm(line: str) -> _LabelRow:
    fields = line.split()
    if len(fields) < CTM_COLUMNS:
        raise ValueError(f"got {len(fields)} fields of {CTM_COLUMNS}")
    start = float(fields[2])
    end = round(start + float(fields[3]), TIME_DECIMALS)
    return (fields[0], fields[1]), _segment(start, end, fields[4])


def _choose_rows(
    rows: list[_LabelRow], path: Path, recording: str, channel: int | None, tier: str | None
) -> list[_LabelRow]:
    """Select the rows of one utterance and one channel.

    Raises:
        AudioError: There are several, and none of them is chosen.
    """
    if tier is not None:
        found = [row for row in rows if tier in (row[0][0], " ".join(row[0]))]
        if not found:
            raise AudioError(f"{path} has no {tier!r}, but {_named(row[0][0] for row in rows)}")
        rows = found
    elif len({name for (name, _), _ in rows}) > 1:
        stem = Path(recording).stem
        found = [row for row in rows if row[0][0] in (recording, stem) or stem == _stem(row[0][0])]
        if not found:
            raise AudioError(
                f"{path} holds the labels of {_named(row[0][0] for row in rows)}, and none of "
                f"{stem!r}: choose one of them by its name, as tier"
            )
        rows = found
    names = list(dict.fromkeys(side for (_, side), _ in rows))
    if len(names) == 1:
        return rows
    wanted = _side(names, channel)
    if wanted is None:
        utterance = rows[0][0][0]
        raise AudioError(
            f"{path} holds labels of the channels {_named(names)} of {utterance}: choose a channel "
            f'of the recording, counted from 0, or name one as tier, such as "{utterance} '
            f'{names[0]}"'
        )
    return [row for row in rows if row[0][1] == wanted]


def _stem(name: str) -> str:
    """Strip the suffix of an audio file from a name."""
    return Path(name).stem if Path(name).suffix.lower() in AUDIO_SUFFIXES else name


def _side(names: list[str], channel: int | None) -> str | None:
    """Find the name of a channel in a CTM; None if the CTM lacks it."""
    if channel is None:
        return None
    if "0" in names:
        return str(channel) if str(channel) in names else None
    known = CTM_CHANNELS[channel] if channel < len(CTM_CHANNELS) else (str(channel + 1),)
    return next((name for name in names if name.upper() in known), None)


def _named(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - MAX_NAMES} more" if len(found) > MAX_NAMES else ""
    return ", ".join(map(repr, found[:MAX_NAMES])) + more


def _segment(start: float, end: float, label: str) -> Segment:
    is_finite = math.isfinite(start) and math.isfinite(end)
    if not is_finite or exceeds(0.0, start) or exceeds(start, end):
        raise ValueError(f"got a segment from {start:g} to {end:g} s")
    start = max(start, 0.0)
    return Segment(start=start, end=max(start, end), label=label.strip())


def _read_textgrid(path: Path) -> dict[str, Any]:
    """Read the non-empty interval tiers of a TextGrid, by name."""
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
    found = {tier.name: tier for tier in tiers if tier.entries}
    if not found:
        raise AudioError(f"{path} holds no labels: its tiers are empty")
    return found


def _choose_tier(tiers: Mapping[str, Any], path: Path, wanted: str | None) -> Any:
    """Choose one of the tiers.

    Raises:
        AudioError: None matches, or several match equally well.
    """
    names = list(tiers)
    if wanted is not None:
        exact = [name for name in names if name.lower() == wanted.lower()]
        names = exact or [name for name in names if _speaker(name) == wanted.lower()]
        if not names:
            raise AudioError(f"{path} has no tier or speaker {wanted!r}, but {_named(tiers)}")
    for kind, of_webmaus in zip(KINDS, WEBMAUS_TIERS, strict=True):
        of_kind = [
            name
            for name in names
            if name.lower() == of_webmaus or kind & set(TIER_WORD.findall(name.lower()))
        ]
        names = of_kind or names
        if of_kind:
            break
    if len(names) > 1:
        raise AudioError(
            f"{path} has the tiers {_named(names)}: choose one of them, or a speaker, by its name"
        )
    return tiers[names[0]]


def _speaker(name: str) -> str:
    """Speaker part of a tier's name: `anna` of `Anna - phones`."""
    kinds = KINDS[0] | KINDS[1]
    words = re.split(r"(\W+|_+)", name.lower())
    kept = [word for word in words if word not in kinds]
    return "".join(kept).strip(" -_:.()[]/")
