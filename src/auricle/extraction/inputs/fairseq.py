"""Manifests as fairseq's wav2vec scripts write them: a root folder, then a file a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from auricle.errors import AudioError
from auricle.extraction.inputs.records import Listing, Problem, Scope, unreadable
from auricle.extraction.inputs.rows import Manifest, Row, list_rows


def list_fairseq(text: str, scope: Scope) -> Listing:
    """The utterances of a TSV whose first line is a folder and whose others are `path<TAB>samples`.

    Paths are taken from that folder and may not leave it; a relative folder lies below the
    manifest's own. The counts are at the files' own rates, which only their headers tell, so
    no length is known from them.

    Raises:
        AudioError: The manifest cannot be read, or its first line is no folder.
    """
    path = os.path.abspath(text)  # noqa: PTH100 - a link keeps its place
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    folder = os.path.join(os.path.dirname(path), lines[0].rstrip("\r"))  # noqa: PTH118, PTH120 - keeps links
    if not lines[0].strip() or not Path(folder).is_dir():
        raise AudioError(
            f"the first line of {path} is {lines[0][:200]!r}, expected the folder that its paths "
            "are taken from; of a table, name the columns there"
        )
    manifest = Manifest(path=path, folder=os.path.normpath(folder), has_absolute_paths=False)
    return list_rows(_rows(lines[1:], path), manifest, scope)


def _rows(lines: list[str], manifest: str) -> Iterator[Row | Problem]:
    for number, written in enumerate(lines, start=2):
        line = written.rstrip("\r")
        if not line:
            continue
        name, _, count = line.partition("\t")
        if not name or not (count.isascii() and count.isdecimal()):
            yield Problem(
                kind="unreadable",
                manifest=manifest,
                line=number,
                reason=f"got {line[:200]!r}, expected a path, a tab and a count of samples",
            )
            continue
        yield Row(line=number, path=name)
