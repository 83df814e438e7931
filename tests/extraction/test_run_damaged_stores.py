"""Stores that were damaged: `auricle verify` finds it, and what it says mends it, does."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from auricle.__main__ import main
from auricle.audio.inputs import sample_paths
from auricle.store.reader import open as open_store

NUM_FILES = 8
SHARD, PART = "shards/00000-000001.safetensors", "parts/00000-000001.parquet"
INDEX, META, PLAN = "index.parquet", "meta.json", "plans/00000.parquet"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    samples, rate = soundfile.read(sample_paths()[0])
    for index in range(NUM_FILES):
        piece = samples[700 * index : 700 * index + 8000 + 1000 * index]
        soundfile.write(folder / f"u{index}.wav", piece, rate)
    return folder


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nothing has happened to."""
    out = tmp_path_factory.mktemp("stores") / "whole"
    assert extract(corpus, out) == 0
    assert len(list((out / "shards").iterdir())) >= 3
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "out")


def extract(corpus: Path, out: Path) -> int:
    options = ["--model", "fbank", "--shard-mib", "0.05", "--batch-seconds", "1"]
    return main(["extract", str(corpus), *options, "--out", str(out)])


def bytes_of(out: Path) -> dict[str, bytes]:
    store = open_store(out)
    assert store.is_closed
    assert store.verify() == []
    return {name: store[name].numpy().tobytes() for name in store.ids}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[50] ^= 4  # in the first values
    path.write_bytes(content)


def claim_another_model(path: Path) -> None:
    path.write_text(re.sub(r'"model_sha256": "..', '"model_sha256": "zz', path.read_text()))


def mend(out: Path, said: str) -> None:
    """Do what a line of `auricle verify` says, but for running the extraction again."""
    found = re.search(
        rf"^(?:changed|missing)  {re.escape(str(out))}  (\S+): .*\n +repair: (.*)$", said
    )
    assert found is not None
    name, remedy = found.groups()
    assert "run the same extraction again" in remedy
    if remedy.startswith("remove it"):
        (out / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (SHARD, cut),
        (SHARD, flip),
        (SHARD, Path.unlink),
        (PART, cut),
        (PART, flip),
        (INDEX, cut),
        (INDEX, flip),
        (INDEX, Path.unlink),
        (META, cut),
        (META, Path.unlink),
        (META, claim_another_model),
        (PLAN, cut),
        (PLAN, flip),
    ],
)
def test_what_verify_says_mends_it(
    corpus: Path,
    whole: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(out / name)
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    *said, counts = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert f"  {name}: " in said[0]
    assert counts in (
        "0 whole, 1 changed, 0 unknown, 0 missing",
        "0 whole, 0 changed, 0 unknown, 1 missing",
    )
    mend(out, "\n".join(said))
    assert extract(corpus, out) == 0
    assert bytes_of(out) == bytes_of(whole)
    assert main(["verify", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"whole    {out}  {NUM_FILES} utterances",
        "1 whole, 0 changed, 0 unknown, 0 missing",
    ]


def test_a_part_that_was_removed_leaves_an_index_that_knows_more(
    corpus: Path, whole: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / PART).unlink()
    assert main(["verify", str(out)]) == 1
    assert f"  {INDEX}: has {NUM_FILES} rows, but parts/ has " in capsys.readouterr().out
    assert extract(corpus, out) == 0
    assert bytes_of(out) == bytes_of(whole)


def test_what_was_lost_with_its_plan_is_planned_anew(
    corpus: Path, whole: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {
        path: path.stat().st_mtime_ns for path in (out / "shards").iterdir() if path != out / SHARD
    }
    (out / PLAN).unlink()
    cut(out / SHARD)
    assert extract(corpus, out) == 0
    assert list(bytes_of(out)) == list(bytes_of(whole))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not (out / PART).exists()
    assert (out / "shards" / "00001-000000.safetensors").exists()
    assert "u0" in open_store(out)


def test_several_damages_are_told_each(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(out / SHARD)
    flip(out / PLAN)
    (out / INDEX).unlink()
    assert main(["verify", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:-1:2]] == [f"{SHARD}:", f"{PLAN}:", f"{INDEX}:"]
    assert lines[-1] == "0 whole, 2 changed, 0 unknown, 1 missing"


def test_a_store_that_is_not_closed_is_whole_as_far_as_it_goes(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = out / META
    meta.write_text(meta.read_text().replace('"closed": true', '"closed": false'))
    (out / INDEX).unlink()
    assert main(["verify", str(out)]) == 0
    assert "unfinished, run the same extraction to complete it" in capsys.readouterr().out


def test_a_meta_file_of_another_extraction_is_refused(
    corpus: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / META).unlink()
    assert (
        main(["extract", str(corpus), "--model", "fbank", "--pool", "mean", "--out", str(out)]) == 1
    )
    assert "holds another extraction" in capsys.readouterr().err
    assert not (out / META).exists()


def test_a_folder_that_is_no_store_is_said_to_be_none(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(corpus)]) == 1
    assert "is not a store: it has no meta.json" in capsys.readouterr().err


def test_errors_that_cannot_be_read_are_to_be_removed(
    corpus: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "errors.jsonl").write_text('{"id": "u0", "sou')
    assert extract(corpus, out) == 1
    assert "errors.jsonl is not what a run wrote" in (said := capsys.readouterr().err)
    assert "remove it" in said
    (out / "errors.jsonl").unlink()
    assert extract(corpus, out) == 0
