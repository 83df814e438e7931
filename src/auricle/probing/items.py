"""Labelled parts of utterances: alignments of frames, and the items of ABX.

Items are phones of speakers in their contexts, from item files or from labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from auricle.corpus.labels import (
    MAX_OVERHANG_SECONDS,
    check_segments,
    exceeds,
    read_alignments,
    read_segments,
)
from auricle.corpus.listing import list_utterances, refuse_problems
from auricle.corpus.reading import seconds_by_header
from auricle.corpus.utterance import Segment, Utterance, UtteranceNames
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.probing.tasks import check_files, in_order, read_phones

COLUMNS = ("#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker")
"""Header of an item file, as ZeroSpeech 2021 and Libri-light write it."""

SILENCE = "SIL"
"""Context of a phone at an end of an utterance, or beside a pause."""

SILENCES = frozenset(
    {"", "sil", "sp", "spn", "nsn", "pau", "epi", "h#", "#", "<eps>", "<sil>", "_", "<p:>", "<p>"}
)
"""Lower-case labels of pauses and noises, which are no phones."""

FRAME_LABELS = (".textgrid", ".ctm", ".ctm.gz")
"""Suffixes of the files that a folder of labels holds, one for each recording."""

MAX_MISSES = 0.1, 0.05
"""Seconds, and share of a recording, by which Kaldi's frames may end before or after it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhoneItem:
    """A phone that a speaker says from `onset` up to `offset`, in seconds, in its context."""

    file: str
    onset: float
    offset: float
    phone: str
    previous: str
    following: str
    speaker: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemTask:
    """Utterances and their items.

    Attributes:
        source: The file or the labels that the items come from.
        span: "item file", "phone", or "triphone" where an item lasts from the onset of the phone
            before to the offset of the phone after.
        utterances: Those with items.
        items: The items of each utterance.
    """

    source: str
    span: str
    utterances: tuple[Utterance, ...]
    items: tuple[tuple[PhoneItem, ...], ...]


def read_items(path: Path) -> list[PhoneItem]:
    """Read an item file: a header with the names of `COLUMNS`, fields with blanks between them.

    Raises:
        AuricleError: The file cannot be read, lacks a column, or a line is wrong; the message
            names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AuricleError(
            f"cannot open {path}: {error.strerror}; check the path of the items"
        ) from error
    except UnicodeDecodeError as error:
        raise AuricleError(f"{path} is no text in UTF-8; {_expected()}") from error
    header = lines[0].split() if lines else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise AuricleError(
            f"the header of {path} lacks {', '.join(missing)}; it has {' '.join(header) or 'none'};"
            f" {_expected()}"
        )
    places = [header.index(name) for name in COLUMNS]
    items = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            items.append(_item(line.split(), len(header), places))
        except ValueError as error:
            raise AuricleError(f"{path}, line {number}: {error}; {_expected()}") from error
    if not items:
        raise AuricleError(f"{path} has no items below its header; {_expected()}")
    return items


def _expected() -> str:
    return f"expected a line {' '.join(COLUMNS)!r} and below it one item a line, times in seconds"


def _item(fields: Sequence[str], num_columns: int, places: Sequence[int]) -> PhoneItem:
    if len(fields) != num_columns:
        raise ValueError(f"got {len(fields)} fields, the header has {num_columns}")
    file, onset, offset, phone, previous, following, speaker = (fields[place] for place in places)
    start, end = float(onset), float(offset)
    if not (math.isfinite(start) and math.isfinite(end) and start >= 0):
        raise ValueError(f"got an item from {onset} to {offset} s")
    if end <= start:
        raise ValueError(f"got the offset {offset}, which is not after the onset {onset}")
    return PhoneItem(
        file=file,
        onset=start,
        offset=end,
        phone=phone,
        previous=previous,
        following=following,
        speaker=speaker,
    )


def write_items(path: Path, items: Iterable[PhoneItem]) -> None:
    """Write an item file.

    Raises:
        OutputError: The file cannot be written; no partial file is left.
    """
    text = item_text(items)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def item_text(items: Iterable[PhoneItem]) -> str:
    """Text of an item file."""
    lines = [" ".join(COLUMNS)]
    for one in items:
        times = f"{one.onset:.10g} {one.offset:.10g}"
        context = f"{one.phone} {one.previous} {one.following}"
        lines.append(f"{one.file} {times} {context} {one.speaker}")
    return "\n".join(lines) + "\n"


def items_of(utterance: Utterance, *, triphones: bool = False) -> Iterator[PhoneItem]:
    """Items of the segments of an utterance, which has the label `speaker`.

    Pauses (`SILENCES`) are no items, but contexts, as `SIL`; so are gaps and the ends of the
    utterance. With `triphones`, an item lasts from the onset of the phone before to the offset of
    the phone after, and phones beside a pause give none.
    """
    phones = [one for one in utterance.segments if one.label.strip().lower() not in SILENCES]
    for index, phone in enumerate(phones):
        before = _neighbour(phones, index - 1, phone, follows=False)
        after = _neighbour(phones, index + 1, phone, follows=True)
        if triphones and (before is None or after is None):
            continue
        whole = triphones and before is not None and after is not None
        yield PhoneItem(
            file=utterance.id.rpartition("/")[2],
            onset=before.start if whole and before else phone.start,
            offset=after.end if whole and after else phone.end,
            phone=_field(phone.label),
            previous=_field(before.label) if before else SILENCE,
            following=_field(after.label) if after else SILENCE,
            speaker=_field(utterance.labels["speaker"]),
        )


def _neighbour(
    phones: Sequence[Segment], index: int, phone: Segment, *, follows: bool
) -> Segment | None:
    """The phone at an index where it touches `phone`."""
    if not 0 <= index < len(phones):
        return None
    other = phones[index]
    apart = exceeds(other.start, phone.end) if follows else exceeds(phone.start, other.end)
    return None if apart else other


def _field(text: str) -> str:
    """A label as one field of an item file."""
    return "_".join(text.split())


def read_item_task(
    data: str | Path, items: Path | None = None, *, triphones: bool = False
) -> ItemTask:
    """Read the utterances of a corpus with their items.

    Args:
        data: With `items`, any input of `auricle.extract`; without, the data of the task `phones`.
        items: An item file, whose `#file` is the id of an utterance or the last part of it; None
            to make the items of the corpus's phones.
        triphones: Make items of whole triphones; an item file states its own times.

    Raises:
        AuricleError: A file is wrong, or names an utterance that the corpus lacks.
        MissingExtraError: The input needs a package that is not installed.
    """
    if items is not None:
        if triphones:
            raise AuricleError(
                f"{items} states the times of its items: leave out --triphone, or --items"
            )
        return _matched(data, items)
    where, utterances = read_phones(data)
    found = [tuple(items_of(one, triphones=triphones)) for one in utterances]
    kept = [index for index, of_one in enumerate(found) if of_one]
    if not kept:
        raise AuricleError(f"{where} has no phones but pauses; expected some to compare")
    return ItemTask(
        source=Path(where).name,
        span="triphone" if triphones else "phone",
        utterances=tuple(utterances[index] for index in kept),
        items=tuple(found[index] for index in kept),
    )


def _matched(data: str | Path, path: Path) -> ItemTask:
    """Utterances of a corpus with the items of a file."""
    by_file: dict[str, list[PhoneItem]] = {}
    for item in read_items(path):
        by_file.setdefault(item.file, []).append(item)
    listing = list_utterances([str(data)], is_strict=False)
    refuse_problems(listing)
    by_name: dict[str, list[Utterance]] = {}
    for one in listing.utterances:
        for name in {one.id, one.id.rpartition("/")[2]}:
            by_name.setdefault(name, []).append(one)
    unknown = [name for name in by_file if name not in by_name]
    if unknown:
        raise AuricleError(
            f"{path} has items of {len(unknown)} file(s) that {data} lacks, the first of them "
            f"{unknown[0]!r}; expected ids such as {listing.utterances[0].id!r}, or the last part "
            "of them, as #file"
        )
    repeated = [name for name in by_file if len(by_name[name]) > 1]
    if repeated:
        first, second, *_ = by_name[repeated[0]]
        raise AuricleError(
            f"{path} means by {repeated[0]!r} either {first.id!r} or {second.id!r}; write the "
            "whole id as #file"
        )
    utterances = tuple(by_name[name][0] for name in by_file)
    check_files(utterances, data)
    return ItemTask(
        source=path.name,
        span="item file",
        utterances=utterances,
        items=tuple(map(tuple, by_file.values())),
    )


def check_items(items: Sequence[PhoneItem], seconds: float) -> None:
    """Check that items fit a recording of the given duration.

    Raises:
        AuricleError: One exceeds its end by far, as times in milliseconds do.
    """
    last = max(items, key=lambda item: item.offset)
    if last.offset > seconds + MAX_OVERHANG_SECONDS:
        raise AuricleError(
            f"the items of {last.file} reach {last.offset:g} s, but it ends at {seconds:g} s: pass "
            "those of this recording, with times in seconds"
        )


def read_aligned(
    labels: Path, listed: Sequence[Utterance], *, tier: str | None, shift_seconds: float
) -> tuple[list[Utterance], list[str]]:
    """Read the labelled segments of utterances from alignments.

    Args:
        labels: A folder with a .TextGrid or .ctm for each recording, one such file, or a text of
            Kaldi's with the label of each frame; all but TextGrids may be compressed (.gz).
        listed: The utterances of a corpus.
        tier: Tier of the TextGrids; None to choose by its name.
        shift_seconds: Time from one frame of Kaldi's to the next.

    Returns:
        The utterances that have labels, and the names of those that the corpus lacks.

    Raises:
        AuricleError: A file cannot be read, labels overlap or do not fit the audio, or an utterance
            has two files.
        MissingExtraError: A TextGrid needs praatio, which is not installed.
    """
    names = UtteranceNames(listed)
    found: dict[int, tuple[str, tuple[Segment, ...]]] = {}
    unknown: list[str] = []
    for name, read in _readers(labels, tier, shift_seconds):
        place = names.find(name, is_longer=True)
        if place is None:
            unknown.append(name)
        elif place in found:
            raise AuricleError(
                f"{labels} labels {listed[place].id} twice, as {found[place][0]!r} and {name!r}: "
                "leave one of them"
            )
        else:
            labelled = (one for one in read(listed[place]) if one.label and one.end > one.start)
            found[place] = name, in_order(listed[place].id, labelled)
    if not found:
        raise AuricleError(
            f"{labels} labels none of the {len(listed)} utterances, but {len(unknown)} others such "
            f"as {', '.join(map(repr, unknown[:2])) or 'none'}; expected names such as "
            f"{listed[0].id!r}"
        )
    is_kaldi = labels.is_file() and not labels.name.lower().endswith(FRAME_LABELS)
    kept = []
    for place, (_, segments) in sorted(found.items()):
        _check_times(listed[place], segments, shift_seconds if is_kaldi else None)
        kept.append(dataclasses.replace(listed[place], segments=segments))
    return [one for one in kept if one.segments], unknown


def _readers(
    labels: Path, tier: str | None, shift: float
) -> Iterator[tuple[str, Callable[[Utterance], Sequence[Segment]]]]:
    """Names of labelled utterances, each with a function that reads its segments."""
    if labels.is_dir() or labels.suffix.lower() == ".textgrid":
        files = [labels] if labels.is_file() else sorted(labels.rglob("*"))
        kept = [path for path in files if path.name.lower().endswith(FRAME_LABELS)]
        if not kept:
            raise AuricleError(
                f"{labels} holds no .TextGrid and no .ctm; expected one for each recording, or the "
                "path of a table (.csv, .tsv), a .ctm, or a text of Kaldi's (.ali)"
            )
        for path in kept:
            relative = path.name if path == labels else path.relative_to(labels).as_posix()
            suffix = next(one for one in FRAME_LABELS if relative.lower().endswith(one))
            yield relative[: -len(suffix)], _file_reader(path, tier)
        return
    if tier is not None:
        raise AuricleError(f"{labels} has no tiers: leave out --tier (in Python tier=)")
    for name, segments in read_alignments(labels, shift).items():
        yield name, lambda _, segments=segments: segments  # type: ignore[misc] # bound here


def _file_reader(path: Path, tier: str | None) -> Callable[[Utterance], Sequence[Segment]]:
    return lambda one: read_segments(
        path, Path(one.member or one.source).name, channel=one.channel, tier=tier
    )


def _check_times(one: Utterance, segments: Sequence[Segment], shift: float | None) -> None:
    """Check that labels fit a recording; Kaldi's frames, of a shift in seconds, have to fill it."""
    seconds = seconds_by_header(one)
    if seconds is None or not segments:
        return
    last = segments[-1].end
    least, share = MAX_MISSES
    if shift is not None and abs(last - seconds) > least + share * seconds:
        raise AuricleError(
            f"{one.id} lasts {seconds:g} s, but its {round(last / shift)} labels last {last:g} s "
            f"at a frame shift of {shift:g} s; pass that of the alignment with --frame-shift (in "
            f"Python frame_shift_seconds=), such as {seconds / last * shift:.2g}"
        )
    try:
        check_segments(segments, seconds)
    except AuricleError as error:
        raise AuricleError(f"{one.id}: {error}") from error
