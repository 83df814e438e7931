"""The tables of docs/which-model.md are those of the catalogue and of the committed results."""

from __future__ import annotations

from pathlib import Path

import pytest
import which_model

import auricle
from auricle.catalogue.family import FAMILIES


def test_the_page_is_current() -> None:
    current = which_model.PAGE.read_text() == which_model.expected()
    assert current, "run python tools/which_model.py"


def test_every_size_is_there_once() -> None:
    families = which_model.family_table()
    for size in auricle.list_sizes():
        assert families.count(f"`{size}`") == 1
    sizes = which_model.size_table()
    assert [line for line in sizes.splitlines() if line.startswith("| `apc` |")] == [
        "| `apc` | APC | 4.1 | 3 | rnn_3 | 512 | `apc_360hr`, `apc_960hr` |"
    ]
    assert "`cpc_2018`" not in sizes  # its weights were never published
    assert "apc_mini" not in sizes


@pytest.mark.parametrize(
    ("size", "sight", "streams"),
    [
        ("apc", "25 ms, and the past; statistics of the utterance", True),
        ("cpc", "29.1 ms, and the past", True),
        ("npc", "245 ms; statistics of the utterance", False),
        ("tera_base", "the whole utterance", False),
    ],
)
def test_what_a_frame_sees(size: str, sight: str, streams: bool) -> None:
    encoder = auricle.build(size)
    assert which_model.sight(encoder) == sight
    assert which_model.streams(encoder) is streams


def test_sizes_have_the_shapes_of_their_encoders() -> None:
    found = {size: encoder for _, size, encoder in which_model.encoders()}
    assert set(found) == set(auricle.list_sizes())
    built = auricle.build("vq_apc").info
    assert found["vq_apc"].info.dims == built.dims
    assert found["vq_apc"].info.num_parameters == built.num_parameters


def test_speed_is_of_our_one_call_fastest_first() -> None:
    def row(model: str, seconds: float) -> dict[str, object]:
        ours = {"library": "auricle", "median": seconds, "slowest": 2 * seconds}
        ours |= {"fastest": seconds / 2, "peak_mib": 7}
        other = {**ours, "library": "s3prl", "median": 0.1}
        entries = [ours, {**ours, "median": 99.0}, other]
        return {"model": model, "case": "ragged", "audio_seconds": 100.0, "entries": entries}

    results = {"rows": [row("tera", 10.0), row("apc", 5.0), {**row("npc", 1.0), "case": "one"}]}
    assert which_model.speed_table(results).splitlines()[2:] == [
        "| `apc` | 20 | 10 to 40 | 7 |",
        "| `tera_base` | 10 | 5 to 20 | 7 |",
    ]


def test_models_of_the_benchmark_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(which_model.ROOT / "benchmarks"))
    from peer_workers.models import MODELS

    assert {name: model.size for name, model in MODELS.items()} == which_model.SIZE_OF


def test_probes_are_in_order() -> None:
    results = which_model.probe_results()
    rows = which_model.order_table(results).splitlines()[2:]
    assert len(rows) == len(results["phones"])
    for column in (2, 3, 4):
        accuracies = [float(row.split("|")[column].split()[-2]) for row in rows]
        assert accuracies == sorted(accuracies, reverse=True)


def test_every_family_is_advised_on() -> None:
    text = which_model.PAGE.read_text()
    assert all(family.title in text for family in FAMILIES.values())


def test_check_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "which-model.md"
    page.write_text("old")
    monkeypatch.setattr(which_model, "PAGE", page)
    monkeypatch.setattr(which_model, "expected", lambda: "new")
    with pytest.raises(SystemExit, match="not current"):
        which_model.main(["--check"])
    assert page.read_text() == "old"
    which_model.main([])
    which_model.main(["--check"])
    assert page.read_text() == "new"
