"""Columns of tables: the meaning and unit that a name states, and the times that a row states."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from auricle.audio.recordings import AudioHeader
from auricle.corpus.manifests import Row, RowError, number
from auricle.errors import AudioError

logger = logging.getLogger(__name__)

Meaning: TypeAlias = Literal["path", "id", "start", "end", "duration", "file duration", "channel"]

Unit: TypeAlias = Literal["seconds", "samples", "frames", "seconds or samples"]
"""Of a time; frames are refused, for their length is not stated; of the last, the file decides."""

PATH_NAMES = ("path", "audio_filepath", "audio_path", "audio", "wav", "file", "file_name")
"""Spellings that messages suggest; `SPELLINGS` holds all."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPELLINGS: dict[Meaning, frozenset[str]] = {
    "path": _words(
        "path filepath file filename audio audiopath audiofile audiofilepath audiofilename "
        "wav wavpath wavfile wavfilepath wavfilename wave wavepath wavefile soundfile soundpath "
        "soundfilename relpath relativepath abspath absolutepath fullpath"
    ),
    "id": _words("id utt uttid uttname utteranceid utterancename key uid uuid uniqueid"),
    "start": _words(
        "start begin beg onset offset starttime begintime begtime onsettime offsettime startoffset "
        "timestart tstart tbegin tbeg tmin xmin"
    ),
    "end": _words("end stop endtime stoptime endoffset timeend tend tstop tmax xmax"),
    "duration": _words("duration dur seconds length len"),
    "file duration": _words(
        "audioduration audiolength audiolen fileduration filelength wavduration wavlength "
        "recordingduration recordinglength totalduration"
    ),
    "channel": _words("channel chan ch channelid channelindex channelidx audiochannel"),
}
"""Names without case, blanks and punctuation, and without their unit."""

TIMES: tuple[Meaning, ...] = ("start", "end", "duration", "file duration")

PARTS = _words("segment seg utterance utt clip chunk part")
"""Words that may stand before a time, as in `segment_start`."""

UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(_words("s sec secs second seconds"), ("seconds", 1.0)),
    **dict.fromkeys(_words("ms msec msecs millis millisecond milliseconds"), ("seconds", 1e-3)),
    **dict.fromkeys(_words("us usec microsecond microseconds"), ("seconds", 1e-6)),
    **dict.fromkeys(_words("ns nsec nanosecond nanoseconds"), ("seconds", 1e-9)),
    **dict.fromkeys(_words("mins minute minutes"), ("seconds", 60.0)),
    **dict.fromkeys(_words("sample samples smp"), ("samples", 1.0)),
    **dict.fromkeys(_words("frame frames"), ("frames", 1.0)),
}
"""Last word of a name -> unit, and how many of `Unit` it is."""

LEADING_UNITS = _words("sample samples frame frames")
"""Those that may come first, as in `sample_start` and torchaudio's `frame_offset`."""

COUNTS = _words("samples numsamples nsamples samplecount")
"""Names of a length in samples."""

START_WORDS = _words("start starts starting begin begins beg onset from tmin xmin")
END_WORDS = _words("end ends ending stop stops finish to until tmax xmax")
TIME_WORDS = (
    START_WORDS
    | END_WORDS
    | _words(
        "offset duration dur length len seconds sec secs ms hour hours time times timestamp "
        "timestamps interval intervals span samples frames"
    )
)
TIME_KEYS = _words("t0 t1 t2 ts te st et")
"""Names that may be those of times, but state too little to be read as such."""

OTHER_LENGTHS = _words(
    "text token tokens char chars character word words phone phones transcript sentence prompt tgt "
    "target label"
)
OTHER_IDS = _words(
    "speaker spk spkr client user reader participant subject session chapter book gender lang "
    "language locale accent label class category intent video text sentence prompt transcript "
    "domain task dialect annotator worker author device shard"
)
"""Words that make a length or an id one of something else than the audio."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read: its name as written, and of a time the unit, with its size."""

    name: str
    unit: Unit = "seconds"
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by meaning, and those passed over that look like times or ids."""

    of: Mapping[Meaning, tuple[Column, ...]]
    passed_over: tuple[str, ...] = field(default=())

    @property
    def half(self) -> tuple[str, str] | None:
        """The column of one end of a part, and that which looks like the other but is not read."""
        starts, ends = self.of["start"], self.of["end"] or self.of["duration"]
        if not self.passed_over or bool(starts) == bool(ends if starts else self.of["end"]):
            return None
        wanted = END_WORDS if starts else START_WORDS
        read = (starts or ends)[0].name
        found = (name for name in self.passed_over if wanted.intersection(words_of(name)))
        return next(((read, name) for name in found), None)

    @property
    def has_path(self) -> bool:
        """True if a column holds paths."""
        return bool(self.of["path"])

    def names_audio(self, *, takes_ids: bool) -> bool:
        """True if a column names the audio: by its path or, with `takes_ids`, by its id."""
        return self.has_path or (takes_ids and bool(self.of["id"]))

    @property
    def names(self) -> list[str]:
        """All names that have a meaning, as written."""
        return [column.name for columns in self.of.values() for column in columns]


def read_columns(names: Iterable[object]) -> Columns:
    """Derive the meaning of each column from its name.

    `offset` is an end beside `onset`, and a start elsewhere. `start` and `stop` beside `wav` and
    an id are SpeechBrain's, which counts samples; as lists of others with these names hold
    seconds, the file decides between the two.
    """
    return _read_columns(tuple(name for name in names if isinstance(name, str)))


def check_columns(names: list[str], path: str, *, takes_ids: bool = False) -> Columns:
    """The columns of a table of these names; with `takes_ids` ids may stand in place of paths.

    Raises:
        AudioError: None holds paths, or a name that has a meaning comes twice.
    """
    columns = read_columns(names)
    if not columns.names_audio(takes_ids=takes_ids):
        raise AudioError(
            f"{path} has the columns {', '.join(names) or '(none)'}; expected one of "
            f"{', '.join(PATH_NAMES)} for the paths{', or id for ids' if takes_ids else ''}"
        )
    for name in columns.names:
        if names.count(name) > 1:
            raise AudioError(f"{path} has {names.count(name)} columns {name!r}: leave one")
    return columns


RENAME = (
    "where they are meant, rename them (id, start, end, duration; with a unit, such as start_ms)"
)


def note_passed_over(names: Iterable[str], place: str, advice: str = RENAME) -> None:
    """Log, once for a list, which columns were passed over although they look like times or ids."""
    if found := list(dict.fromkeys(names)):
        columns = ", ".join(map(repr, found))
        logger.warning(
            "%s: passed over %s, which look like times or ids: %s", place, columns, advice
        )


@functools.lru_cache(maxsize=256)
def _read_columns(names: tuple[str, ...]) -> Columns:
    of: dict[Meaning, list[Column]] = {meaning: [] for meaning in SPELLINGS}
    passed_over = []
    split = {name: words_of(name) for name in names}
    has_onset = any("onset" in words for words in split.values())
    keys = {"".join(words) for words in split.values()}
    is_speechbrain = {"wav", "start", "stop"} <= keys and bool(SPELLINGS["id"] & keys)
    for name, words in split.items():
        meaning, column = _meaning(name, words)
        if meaning == "start" and "offset" in words and has_onset:
            meaning = "end"
        if is_speechbrain and "".join(words) in ("start", "stop"):
            column = Column(name, "seconds or samples")
        if meaning is not None:
            of[meaning].append(column)
        elif _looks_meant(words):
            passed_over.append(name)
    return Columns({key: tuple(found) for key, found in of.items()}, tuple(passed_over))


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: of `Start (ms)`, `start-ms` and `startMs` the same two.

    A path, such as the first line of a fairseq manifest, has none.
    """
    if "/" in name or "\\" in name:
        return []
    return [word.lower() for word in WORD.findall(name.removeprefix("\ufeff"))]


def _meaning(name: str, words: list[str]) -> tuple[Meaning | None, Column]:
    key = "".join(words)
    if key in COUNTS:
        return "duration", Column(name, "samples")
    for meaning in SPELLINGS:
        if key in SPELLINGS[meaning]:
            return meaning, Column(name)
    column = Column(name)
    if len(words) > 1 and words[-1] in UNITS:
        column = Column(name, *UNITS[words[-1]])
        words = words[:-2] if words[-2] == "in" else words[:-1]
    elif len(words) > 1 and words[0] in LEADING_UNITS:
        column = Column(name, *UNITS[words[0]])
        words = words[1:]
    for rest in (words, words[1:] if words and words[0] in PARTS else words):
        for meaning in TIMES:
            if "".join(rest) in SPELLINGS[meaning]:
                is_count = column.unit == "frames" and "duration" in meaning
                return (None if is_count else meaning), column
    return None, column


def _looks_meant(words: list[str]) -> bool:
    """True if a name without a meaning may be that of a time or of an id of the audio."""
    found = set(words)
    if found & TIME_WORDS or "".join(words) in TIME_KEYS:
        return not found & OTHER_LENGTHS
    return bool(words) and words[-1] in ("id", "ids", "uid") and not found & OTHER_IDS


ROUNDING_SECONDS = 0.02
"""By how much two times of one row may differ: lists round to hundredths."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A time of a row: the number as written, and the column that it stands in."""

    column: Column
    written: object
    value: float

    def seconds(self, header: AudioHeader | None) -> float:
        """The time in seconds; of one in samples the header must be given."""
        if self.column.unit == "seconds":
            return self.value * self.column.scale
        assert header is not None
        return self.value / header.sample_rate

    def __str__(self) -> str:
        return f"{self.column.name} {self.written}"


def read_claims(cells: Iterable[tuple[Column, object]], what: str) -> tuple[Claim, ...]:
    """The times that the columns of one meaning state, without empty cells.

    Raises:
        RowError: A value is no finite number of at least 0, or counts frames.
    """
    claims = []
    for column, written in cells:
        if (value := number(written, what, column.unit)) is None:
            continue
        if column.unit == "frames":
            raise RowError(
                f"{what} is {written!r} in the column {column.name!r}, whose frames may be of any "
                "length: give seconds, or samples in a column such as start_samples"
            )
        claims.append(Claim(column, written, value))
    return tuple(claims)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Times that a row states, column by column."""

    start: tuple[Claim, ...]
    end: tuple[Claim, ...]
    duration: tuple[Claim, ...]
    of_file: tuple[Claim, ...]

    @property
    def need_header(self) -> bool:
        """True if the file's sample rate is needed: a part is counted in samples."""
        ends = (*self.start, *self.end)
        counted = (claim for claim in (*ends, *self.duration) if claim.column.unit != "seconds")
        return bool(ends) and next(counted, None) is not None

    def apply(self, row: Row, header: AudioHeader | None = None) -> None:
        """Set a row's start and length in seconds, or the known length of its file.

        Raises:
            RowError: Two columns disagree, the unit is not clear, or the end is not after the
                start.
        """
        times = self if header is None else self._with_units(header)
        start, end = _agreed(times.start, header), _agreed(times.end, header)
        if start is None and end is None:
            stated = [c for c in (*times.of_file, *times.duration) if c.column.unit == "seconds"]
            if stated and stated[0].value <= 0:
                raise RowError(
                    f"the duration is {stated[0].written!r}, expected more than 0 seconds"
                )
            row.known_seconds = stated[0].seconds(None) if stated else None
            return
        duration = _agreed(times.duration, header)
        if duration is not None and duration <= 0:
            raise RowError(f"the duration is {duration:g} s, expected more than 0 s")
        row.start = start or 0.0
        row.seconds = duration
        if end is None:
            return
        if end <= row.start:
            raise RowError(f"the end, {end:g} s, is not after the start, {row.start:g} s")
        row.seconds = end - row.start
        if duration is None or _is_close(duration, row.seconds):
            return
        if header is None or not _is_close(duration, header.seconds):
            raise RowError(
                f"the start, {row.start:g} s, the end, {end:g} s, and the duration, "
                f"{duration:g} s, disagree: correct them, or leave the end or the duration out"
            )

    def _with_units(self, header: AudioHeader) -> Times:
        """The same, with times that may be seconds or samples taken for what fits the file."""
        claims = (*self.start, *self.end)
        unclear = [claim for claim in claims if claim.column.unit == "seconds or samples"]
        if not unclear:
            return self
        longest = max(claim.value for claim in unclear)
        written = ", ".join(map(str, unclear))
        fits_seconds = header.seconds is None or longest <= header.seconds + ROUNDING_SECONDS
        is_whole = all(claim.value.is_integer() for claim in unclear)
        has_point = any("." in str(claim.written) for claim in unclear)
        if fits_seconds and is_whole and not has_point:
            raise RowError(
                f"{written} may count seconds or, as SpeechBrain does, samples: name the columns "
                "start_seconds and stop_seconds, or start_samples and stop_samples"
            )
        fits_samples = header.num_samples is None or longest <= header.num_samples
        if not fits_seconds and not (is_whole and fits_samples):
            raise RowError(
                f"{written} reach past the end of the file, of {header.seconds:g} s and "
                f"{header.num_samples} samples, in seconds and in samples: correct them"
            )
        unit: Unit = "seconds" if fits_seconds else "samples"

        def decided(claim: Claim) -> Claim:
            if claim.column.unit != "seconds or samples":
                return claim
            return dataclasses.replace(claim, column=Column(claim.column.name, unit))

        return dataclasses.replace(
            self, start=tuple(map(decided, self.start)), end=tuple(map(decided, self.end))
        )


def _agreed(claims: Sequence[Claim], header: AudioHeader | None) -> float | None:
    """The time that all of some columns state, from the one in samples where there is one."""
    if not claims:
        return None
    if len({claim.seconds(header) for claim in claims}) > 1:
        first = claims[0].seconds(header)
        if not all(_is_close(claim.seconds(header), first) for claim in claims):
            raise RowError(
                f"{' and '.join(map(str, claims))} claim the same time and disagree: leave all but "
                "one of these columns out"
            )
    exact = [claim for claim in claims if claim.column.unit == "samples"]
    return (exact or list(claims))[0].seconds(header)


def _is_close(one: float, other: float | None) -> bool:
    return other is not None and abs(one - other) <= ROUNDING_SECONDS
