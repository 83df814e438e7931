"""One input in ten is damaged, each in another way: the rest is whole, each is told once."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.store.reader import open as open_store


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def write_text(path: Path) -> None:
    path.write_text("This is what was said.\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def add_nan(path: Path) -> None:
    samples, rate = soundfile.read(path)
    samples[1000] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forbid(path: Path) -> None:
    path.chmod(0)


def break_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.wav")


def too_short(path: Path) -> None:
    soundfile.write(path, np.zeros(10), 16000)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "d00.wav": (cut_header, "as audio: Error in WAV"),
    "d01.wav": (write_text, "Format not recognised"),
    "d02.wav": (empty, "is empty"),
    "d03.wav": (add_nan, "1 of 4300 samples are NaN"),
    "d04.flac": (cut, "has been cut short"),
    "d05.wav": (cut, "has been cut short"),
    "d06.wav": (forbid, "Permission denied"),
    "d07.wav": (break_link, "No such file or directory"),
    "d08.wav": (too_short, "10 samples .* needs at least"),
}
"""Name -> what happens to the file, and a pattern of the reason."""

MAY_READ_ANYTHING = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    samples, rate = soundfile.read(sample_paths()[0])
    names = [*DAMAGES, *(f"u{index:02d}.wav" for index in range(9 * len(DAMAGES)))]
    for index, name in enumerate(names):
        start = 700 * index % 60000
        soundfile.write(folder / name, samples[start : start + 4000 + 100 * index], rate)
    return folder


def extract(corpus: Path, out: Path) -> int:
    options = ["--model", "fbank", "--shard-mib", "0.2", "--batch-seconds", "3"]
    return main(["extract", str(corpus), *options, "--out", str(out)])


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    return {name: store[name].numpy().tobytes() for name in store.ids}


def test_one_input_in_ten_is_damaged(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(corpus, tmp_path / "whole") == 0
    expected = bytes_of(tmp_path / "whole")
    shutil.copytree(corpus, tmp_path / "before")
    damaged, sources = {}, {}
    for name, (damage, reason) in DAMAGES.items():
        if damage is not forbid or not MAY_READ_ANYTHING:
            damage(corpus / name)
            damaged[Path(name).stem] = reason
            sources[Path(name).stem] = corpus / name
    capsys.readouterr()

    out = tmp_path / "out"
    assert extract(corpus, out) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert len(lines) == len(errors) == len(damaged)
    assert {error["id"] for error in errors} == set(damaged)
    for error, line in zip(errors, lines, strict=True):
        assert re.search(damaged[error["id"]], error["error"])
        assert error["source"] == str(sources[error["id"]])
        assert line.startswith("auricle: error: ")
        assert line.endswith(error["error"])
        assert error["source"] in line
    num_whole = len(expected) - len(damaged)
    assert f"{len(damaged)} failed, see {out}/errors.jsonl" in captured.out
    assert len(open_store(out)) == num_whole
    assert bytes_of(out).items() <= expected.items()
    assert open_store(out).verify() == []

    files = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    shutil.rmtree(corpus)
    shutil.copytree(tmp_path / "before", corpus)
    assert extract(corpus, out) == 0
    report = capsys.readouterr().out
    assert (
        f"wrote {len(damaged)} of {len(damaged)} utterances to {out}; {num_whole} already" in report
    )
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert not (out / "errors.jsonl").exists()
    assert bytes_of(out) == expected
