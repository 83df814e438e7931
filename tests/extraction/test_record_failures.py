from __future__ import annotations

import json
from pathlib import Path

import pytest

from auricle.corpus.utterance import Problem, Utterance
from auricle.errors import ExtractionError
from auricle.extraction.record import Failures
from auricle.store.folder import open_folder


def failed(name: str) -> tuple[Utterance, str]:
    utterance = Utterance(id=name, source="set.tar", container="tar", member=f"{name}.wav")
    return utterance, "is\nnoise"


def entries(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "errors.jsonl").read_text().splitlines()]


def test_failures_stay_until_they_are_tried_again(tmp_path: Path) -> None:
    reported: list[str] = []
    failures = Failures(open_folder(tmp_path), reported.append, stops=False)
    failures.add(*failed("a"))
    failures.add(*failed("b"))
    failures.add_problem(Problem(kind="missing", manifest="list.csv", line=2, reason="gone"))
    failures.write()
    assert reported == [
        "a (set.tar:a.wav): is noise",
        "b (set.tar:b.wav): is noise",
        "list.csv, line 2: gone",
    ]
    assert entries(tmp_path)[0] == {"id": "a", "source": "set.tar:a.wav", "error": "is noise"}
    again = Failures(open_folder(tmp_path), reported.append, stops=False)
    again.forget(["a"])
    assert again.num_new == 0
    again.write()
    assert [entry["id"] for entry in entries(tmp_path)] == ["b"]
    again.forget(["b"])
    again.write()
    assert not (tmp_path / "errors.jsonl").exists()


def test_the_first_may_stop_a_run(tmp_path: Path) -> None:
    failures = Failures(open_folder(tmp_path), pytest.fail, stops=True)
    with pytest.raises(ExtractionError, match="a .set.tar:a.wav.: is noise; repair it"):
        failures.add(*failed("a"))
    assert [entry["id"] for entry in entries(tmp_path)] == ["a"]


def test_what_failed_before_and_is_not_tried_again_is_counted(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    first = Failures(folder, lambda _: None, stops=False)
    for name in ("a", "b", "c"):
        first.add(Utterance(id=name, source=f"{name}.wav"), "no")
    assert first.num_old == 0
    first.write()
    again = Failures(folder, lambda _: None, stops=False)
    assert again.num_old == 3
    again.forget(["a"])
    again.add(Utterance(id="b", source="b.wav"), "no")
    assert (again.num_old, again.num_new) == (1, 1)
