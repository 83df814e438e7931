"""Listing of the utterances of any input, for extraction, pretraining, probes and plots."""

from __future__ import annotations

import dataclasses
import glob
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from auricle.audio.files import read_header
from auricle.audio.inputs import audio_suffixes
from auricle.corpus.datasets import SCHEME, is_saved_dataset, list_dataset
from auricle.corpus.folders import (
    PACKED,
    PACKED_SUFFIXES,
    expand_files,
    list_archives,
    list_audio,
)
from auricle.corpus.kaldi_lhotse import is_lhotse, list_cuts, list_kaldi
from auricle.corpus.manifests import (
    STANDARD_INPUT,
    Row,
    RowError,
    list_fairseq,
    list_paths,
    open_text,
)
from auricle.corpus.tables import has_path_column, json_objects, list_table, table_rows
from auricle.corpus.utterance import (
    Lister,
    Listing,
    Problem,
    Scope,
    Utterance,
    UtteranceNames,
    id_of_part,
    unreadable,
    without_suffix,
)
from auricle.corpus.wav_scp import SCRIPT_NAME
from auricle.errors import AudioError

LISTERS: dict[str, Lister] = {
    "audio": list_audio,
    "fairseq": list_fairseq,
    "table": list_table,
    "list": list_paths,
    "kaldi": list_kaldi,
    "lhotse": list_cuts,
    "dataset": list_dataset,
    "webdataset": list_archives,
}
"""Name of a format of inputs -> its lister."""

MANIFEST_FORMATS = ("fairseq", "table", "list", "kaldi", "lhotse")
"""Those whose inputs are expanded here; the others do it by themselves."""

MAX_IDS = 5
"""Ids that a message lists."""

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".tsv", ".tsv.gz")
JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def input_texts(inputs: str | Path | Iterable[str | Path]) -> list[str]:
    """Inputs as texts, one or more; AudioError if they are none, or of another type."""
    is_table = hasattr(inputs, "columns") or isinstance(inputs, Mapping)
    if is_table or not isinstance(inputs, str | Path | Iterable):
        advice = (
            "; write a table to a file, as DataFrame.to_csv('list.csv', index=False) does, and "
            "pass its path"
        )
        raise AudioError(
            "inputs are paths, patterns or names of data sets, one or a list of them, but got "
            f"{type(inputs).__name__}{advice if is_table else ''}"
        )
    texts = []
    for one in [inputs] if isinstance(inputs, str | Path) else inputs:
        if not isinstance(one, str | Path):
            raise AudioError(
                f"inputs are paths, patterns or names of data sets, but got {type(one).__name__}; "
                "waveforms are pairs, (id, waveform), with a str as id"
            )
        texts.append(os.fspath(one))
    if not texts:
        raise AudioError("no audio to extract: inputs is empty; name a file, folder or data set")
    return texts


def list_utterances(
    inputs: Sequence[str],
    *,
    input_format: str | None = None,
    root: Path | None = None,
    channel: int | None = None,
    ids_by_path: bool = False,
    with_labels: bool = False,
    is_strict: bool = True,
) -> Listing:
    """List the utterances of inputs, in their order; no audio is opened.

    The format of an input follows from its name and contents: a folder, a pattern or a file of
    audio; a manifest of fairseq's (`.tsv`), with a column of paths (`.tsv`, `.csv`, `.parquet`,
    `.jsonl`), of paths alone (`.txt`, or `-` for standard input), of Kaldi's (`wav.scp` or its
    folder) or of Lhotse's (`.jsonl`, `.jsonl.gz`); a tar archive, or several; a Hugging Face data
    set (`hf-dataset://NAME`, or a folder saved to disk).

    A file named by several folders, files and patterns under one id counts once. Every other id
    that comes twice is an error.

    Args:
        inputs: Paths, patterns or names.
        input_format: One of `LISTERS`, instead of looking.
        root: A folder that no audio may lie outside of, links followed. Without it, the relative
            paths of a manifest may not leave its folder; absolute ones lie anywhere.
        channel: The channel of utterances for which the input names none, counted from 0; None
            for the mean of all.
        ids_by_path: Make ids that come from paths of all of the path.
        with_labels: Fill `Utterance.labels`: cells of tables and of data sets, Kaldi's `utt2spk`
            and `text`, Lhotse's supervisions.
        is_strict: What a store needs: ids are unique and can be names of files, files exist and lie
            below the root or their list's folder. Without it none of this is checked.

    Returns:
        The utterances, and a problem for each row whose file is missing, lies outside of the root
        or that cannot be read.

    Raises:
        AudioError: An input cannot be read, holds nothing, or two utterances have one id.
        MissingExtraError: An input needs a package that is not installed.
    """
    if input_format is not None and input_format not in LISTERS:
        raise AudioError(
            f"the format (input_format) is {input_format!r}, expected one of {', '.join(LISTERS)}"
        )
    if root is not None and not Path(root).is_dir():
        raise AudioError(
            f"the root {root} is no folder that exists; pass root= (--root) the one that holds all "
            "audio, or leave it out"
        )
    scope = Scope(
        root=root,
        channel=channel,
        ids_by_path=ids_by_path,
        with_labels=with_labels,
        is_strict=is_strict,
    )
    listing = Listing()
    parts: list[tuple[str, str]] = []
    firsts: list[int] = []
    for text in inputs:
        for name, found_format in _inputs_of(text, input_format):
            found = _list_one(name, found_format, scope)
            parts.append((name, found_format))
            firsts.append(len(listing.utterances))
            listing.extend(found)
    if is_strict:
        _drop_repeated(listing, parts, firsts, ids_by_path=ids_by_path)
    return listing


def find_utterance(
    text: str, utterance_id: str | None = None, *, channel: int | None = None
) -> Utterance:
    """Find one utterance of an input: the only one, or the one of an id.

    Args:
        text: As `list_utterances` takes an input; a file of audio is not looked at yet.
        utterance_id: Needed where the input has several.
        channel: Taken where the input names none, counted from 0; None for the mean of all.

    Raises:
        AudioError: The input cannot be read, has several utterances, or none of that id.
        MissingExtraError: It needs a package that is not installed.
    """
    is_pattern = not Path(text).exists() and ("{" in text or glob.has_magic(text))
    is_file = not is_pattern and not Path(text).is_dir()
    if utterance_id is None and is_file and _inputs_of(text, None) == [(text, "audio")]:
        return Utterance(id=without_suffix(Path(text).name), source=text, channel=channel)
    listing = list_utterances([text], channel=channel, is_strict=False)
    found = [one for one in listing.utterances if utterance_id in (None, one.id)]
    if len(found) == 1:
        return found[0]
    if not listing.utterances:
        raise AudioError(str(listing.problems[0]))
    ids = [one.id for one in found or listing.utterances]
    some = ", ".join(map(repr, ids[:MAX_IDS])) + (", ..." if len(ids) > MAX_IDS else "")
    if not found:
        raise AudioError(f"{text} has no utterance {utterance_id!r}, but {some}")
    raise AudioError(
        f"{text} has {len(ids)} utterances, expected one: choose it by its id with --utterance "
        f"(in Python utterance=), one of {some}"
    )


def refuse_problems(listing: Listing) -> None:
    """Refuse a listing with rows that cannot be used.

    Raises:
        AudioError: There are some.
    """
    if problems := listing.problems:
        more = "" if len(problems) == 1 else f"; {len(problems) - 1} more rows cannot be used"
        raise AudioError(f"{problems[0]}{more}")


def label_rows(path: str) -> list[Row]:
    """Rows of a table of labels, which name audio by path or id; AudioError where one is wrong."""
    _, rows = table_rows(path, Scope(with_labels=True, is_strict=False, takes_ids=True))
    found = []
    for row in rows:
        if isinstance(row, Problem):
            raise AudioError(str(row))
        found.append(row)
    if not found:
        raise AudioError(f"{path} has no rows below its line of names; expected one for each label")
    return found


def places_of_rows(
    utterances: Sequence[Utterance], rows: Sequence[Row], table: str
) -> list[int | None]:
    """Index of the utterance that each row names, by path or id; AudioError where it is several."""
    names = UtteranceNames(utterances)
    folder = str(Path(table).absolute().parent)
    return [names.find_first((row.path, row.id), folder) for row in rows]


def with_labels(
    utterances: Sequence[Utterance], rows: Sequence[Row], table: str
) -> tuple[list[Utterance], int]:
    """The utterances, or parts of them, that rows of a table name, each with its cells as labels.

    Returns:
        One utterance a row, and the number of utterances that no row names.

    Raises:
        AudioError: A row names audio that is not there, several utterances, or a part that lies
            outside of its utterance.
    """
    places = places_of_rows(utterances, rows, table)
    unknown = [row for row, place in zip(rows, places, strict=True) if place is None]
    if unknown:
        first = unknown[0]
        raise AudioError(
            f"{table} labels {len(unknown)} of {len(rows)} names that the audio lacks, the first "
            f"{first.path or first.id!r} in line {first.line}; expected names such as "
            f"{utterances[0].id!r}: add the audio, or delete these rows"
        )
    found = [place for place in places if place is not None]
    parts = [_part(utterances[place], row, table) for place, row in zip(found, rows, strict=True)]
    return parts, len(utterances) - len(set(found))


def _part(one: Utterance, row: Row, table: str) -> Utterance:
    """An utterance, or the segment of it that a row states, with the labels of the row."""
    if row.complete is not None:  # times in samples, whose rate the file has
        try:
            row.complete(read_header(one.source))
        except RowError as error:
            raise AudioError(f"{table}, line {row.line}: {error}") from error
    channel = one.channel if row.channel is None else row.channel
    one = dataclasses.replace(one, labels={**one.labels, **row.labels}, channel=channel)
    if row.start is None:
        return one
    end = None if row.seconds is None else row.start + row.seconds
    rest = None if one.seconds is None else one.seconds - row.start
    if rest is not None and (rest <= 0 or (row.seconds or 0.0) > rest):
        raise AudioError(
            f"{table}, line {row.line}: the segment from {row.start:g} s leaves {one.id}, of "
            f"{one.seconds:g} s; give times from the start of the utterance, in seconds"
        )
    return dataclasses.replace(
        one,
        id=id_of_part(one.id, row.start, end),
        start=one.start + row.start,
        seconds=rest if row.seconds is None else row.seconds,
    )


def _list_one(text: str, input_format: str, scope: Scope) -> Listing:
    found = LISTERS[input_format](text, scope)
    if not found.utterances and not found.problems:
        raise AudioError(f"{text} names no audio (read as {input_format}); check its contents")
    return found


def _inputs_of(text: str, input_format: str | None) -> list[tuple[str, str]]:
    """The inputs that a text stands for, with the format of each; patterns of manifests expand."""
    if not text:
        raise AudioError("an input is empty text; pass a file, a folder or a pattern")
    if text == STANDARD_INPUT:
        return [(text, "list")]
    if text.startswith(SCHEME):
        return [(text, "dataset")]
    if input_format in MANIFEST_FORMATS:
        return [(file, input_format) for file in expand_files(text)]
    if input_format is not None:
        return [(text, input_format)]
    name = text.lower()
    if name.endswith(PACKED_SUFFIXES):
        raise AudioError(f"{text} {PACKED}")
    if Path(text).is_dir():
        return [(text, _format_of_folder(text))]
    if name.endswith(".tar"):
        return [(text, "webdataset")]
    if name.endswith(".scp"):
        return [(file, "kaldi") for file in expand_files(text)]
    if name.endswith(".txt"):
        return [(file, "list") for file in expand_files(text)]
    if name.endswith(TABLE_SUFFIXES + JSON_SUFFIXES):
        return [(file, _format_of_manifest(file)) for file in expand_files(text)]
    return [(text, "audio")]


def is_listed_folder(folder: str) -> bool:
    """True for Kaldi's data folders and saved data sets, which list their utterances."""
    return _format_of_folder(folder) in ("kaldi", "dataset")


def _format_of_folder(folder: str) -> str:
    if Path(folder, SCRIPT_NAME).is_file():
        return "kaldi"
    if is_saved_dataset(folder):
        return "dataset"
    if _holds_audio(folder):
        return "audio"
    has_archives = next(Path(folder).rglob("*.tar"), None) is not None
    return "webdataset" if has_archives else "audio"


def _holds_audio(folder: str) -> bool:
    """True if a file at any depth has an audio suffix. Stops at the first."""
    suffixes = tuple(audio_suffixes())
    return any(
        name.lower().endswith(suffixes) and not name.startswith(".")
        for _, _, names in os.walk(folder)
        for name in names
    )


def _format_of_manifest(path: str) -> str:
    name = path.lower()
    if name.endswith((".tsv", ".tsv.gz")):
        try:
            with open_text(path) as file:
                lines = file.readline(), file.readline()
                return "table" if has_path_column(*lines) else "fairseq"
        except OSError as error:
            raise unreadable(path, error) from error
    if name.endswith(JSON_SUFFIXES):
        first = next(json_objects(path), None)
        if first is not None and not isinstance(first[1], Problem) and is_lhotse(first[1]):
            return "lhotse"
    return "table"


def _drop_repeated(
    listing: Listing, parts: list[tuple[str, str]], firsts: list[int], *, ids_by_path: bool
) -> None:
    """Keep files once that folders and patterns name twice; refuse all other repeated ids."""
    seen: dict[str, int] = {}
    repeated: set[int] = set()
    clashes: list[tuple[int, int]] = []
    for place, utterance in enumerate(listing.utterances):
        other = seen.setdefault(utterance.id, place)
        if other == place:
            continue
        formats = {parts[bisect_right(firsts, index) - 1][1] for index in (place, other)}
        if formats == {"audio"} and listing.utterances[other] == utterance:
            repeated.add(place)
        else:
            clashes.append((other, place))
    if clashes:
        first, second = clashes[0]
        sources = [
            f"{listing.utterances[place].origin} (of {parts[bisect_right(firsts, place) - 1][0]})"
            for place in (first, second)
        ]
        more = "" if len(clashes) == 1 else f"; {len(clashes) - 1} more ids come twice"
        by_path = 'give them ids by their whole paths with --ids path (ids="path"), or in a list, '
        ways = (
            f"{'' if ids_by_path else by_path}rename one, choose one kind of file with a pattern "
            "such as 'corpus/**/*.wav', or extract them to stores of their own"
        )
        places = {bisect_right(firsts, place) - 1 for place in (first, second)}
        if len(places) == 1 and parts[places.pop()][1] in MANIFEST_FORMATS:
            ways = "give each row an id of its own there (a table has a column id)"
        raise AudioError(
            f"{sources[0]} and {sources[1]} have one id, {listing.utterances[first].id!r}{more}: "
            f"{ways}"
        )
    if repeated:
        kept = [u for place, u in enumerate(listing.utterances) if place not in repeated]
        listing.utterances[:] = kept
