from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.catalogue.family import FAMILIES, RECORDS
from auricle.catalogue.search import find, list_models
from auricle.cli.listing import FAMILY_HEADER, HEADER, WIDTH
from auricle.hub.cache import Conversion, Stamp, cached_path, write_note


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


def names_in(table: str) -> list[str]:
    """The second cell of each row; what is indented are notes."""
    lines = [line for line in table.splitlines()[1:] if not line.startswith(" ")]
    return [cells(line)[1] for line in lines]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("  ") if cell.strip()]


def test_every_model_in_order_with_its_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    table = listed(capsys, "--all")
    assert sorted(names_in(table)) == sorted(list_models())
    words = table.replace(",", " ").replace(";", " ").split()
    for name in list_models():
        for alias in find(name).aliases:
            assert alias in words
    assert max(map(len, table.splitlines())) <= WIDTH


def test_bundled_models_come_first_then_family_by_family(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [find(name) for name in names_in(listed(capsys, "--all"))]
    is_bundled = [record.embedded for record in records]
    assert is_bundled == sorted(is_bundled, reverse=True)
    bundled = [record for record in records if record.embedded]
    assert [record.released for record in bundled] == sorted(record.released for record in bundled)
    families = [record.family for record in records if not record.embedded]
    assert len([*groupby(families)]) == len(set(families))
    assert families[-1] == "baseline"


def test_a_row_tells_what_the_catalogue_and_the_family_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    header, row = listed(capsys, "npc_960hr").splitlines()[:2]
    assert cells(header) == list(HEADER)
    assert cells(row) == [
        "2020-11-01", "npc_960hr", "2011.00406", "mel", "LibriSpeech (960 h)", "download",
    ]  # fmt: skip


def test_a_mark_says_where_the_weights_are(capsys: pytest.CaptureFixture[str]) -> None:
    path = cached_path(find("npc_960hr"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    for name, mark in (
        ("npc_360hr", "download"), ("npc_960hr", "cached"), ("apc_mini", "bundled"),
        ("cpc_2018", "never published"), ("fbank", "-"),
    ):  # fmt: skip
        assert cells(listed(capsys, name).splitlines()[1])[-1] == mark
    assert "| download |" in listed(capsys, "npc_960hr", "--markdown"), "the same on every machine"


def test_offline_shows_only_what_needs_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    path = cached_path(find("tera"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    embedded = [name for name in list_models() if find(name).embedded]
    names = names_in(listed(capsys, "--offline"))
    assert sorted(names) == sorted([*embedded, "tera_960hr", *list_models(family="baseline")])
    assert names_in(listed(capsys, "--offline", "tera*")) == ["tera_mini", "tera_960hr"]
    assert main(["list", "--offline", "wavlm"]) == 1
    assert "'wavlm' and works offline" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--all"], ["--offline"]])
def test_a_note_of_the_cache_is_read_once(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tera_960hr", "npc_960hr"):
        file = Stamp(path=f"converted/{name}.safetensors", num_bytes=1, mtime_ns=0, sha256="0")
        write_note(Conversion(label=name, sources=(file,), file=file))
        file.full_path.write_bytes(b"x")
    read: list[str] = []
    read_bytes = Path.read_bytes

    def count(path: Path) -> bytes:
        read.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    assert {"tera_960hr", "npc_960hr"} <= set(names_in(listed(capsys, *options)))
    assert [name for name in read if name.endswith(".json")] == [
        "npc_960hr.json",
        "tera_960hr.json",
    ]


def test_baselines_come_last_and_need_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    table = listed(capsys, "--all")
    assert names_in(table)[-8:] == list_models(family="baseline")
    (row,) = (line for line in table.splitlines() if " mfcc " in line)
    assert cells(row) == ["-", "mfcc", "-", "wave", "-", "-"]


def test_markdown_links_papers_and_repositories(capsys: pytest.CaptureFixture[str]) -> None:
    header, _, row = listed(capsys, "modified_cpc", "--markdown").splitlines()
    assert header.count("|") == row.count("|")
    assert "[2002.02848](https://arxiv.org/abs/2002.02848)" in row
    assert "`modified_cpc`, `cpc`" in row
    assert "(https://github.com/facebookresearch/CPC_audio)" in row


def test_without_arguments_a_line_for_each_family(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(capsys)
    table, _, hints = text.partition("\n\n")
    rows = [cells(row) for row in table.splitlines()]
    assert rows[0] == list(FAMILY_HEADER)
    assert sorted(row[1] for row in rows[1:]) == sorted(FAMILIES)
    assert rows[-1][:4] == ["-", "baseline", "Baseline", "8"]
    for _, stem, title, number, names in rows[1:]:
        assert title == FAMILIES[stem].title
        assert int(number) == len(list_models(family=stem))
        assert all(find(name).family == stem for name in names.removesuffix(", ...").split(", "))
    for name in list_models():
        is_named = find(name).embedded or find(name).is_non_commercial
        assert (name in hints.replace(",", "").split()) == is_named
    assert "`auricle list --all`" in hints
    assert len(text.splitlines()) < 60
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("stem", ["hubert", "HuBERT", "tera", "baseline"])
def test_the_stem_of_a_family_lists_it(stem: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = names_in(listed(capsys, stem))
    assert names == names_in(listed(capsys, "--family", stem.lower()))
    assert sorted(names) == sorted(list_models(family=stem.lower()))


def test_a_licence_against_commercial_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row, *notes = listed(capsys, "mhubert_147").splitlines()[1:]
    assert "not for commercial use: CC BY-NC-SA 4.0" in " ".join(" ".join(notes).split())
    assert "commercial" not in listed(capsys, "wavlm")
    assert "mhubert_147" in row


def test_patterns_and_families_narrow_it_down(capsys: pytest.CaptureFixture[str]) -> None:
    names = names_in(listed(capsys, "--family", "npc"))
    assert [name for name in names if not find(name).embedded] == ["npc_360hr", "npc_960hr"]
    assert names_in(listed(capsys, "vq_*_360hr")) == ["vq_apc_360hr"]


def test_no_match_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "wav", "--family", "tera"]) == 1
    error = capsys.readouterr().err
    assert "no model name matches 'wav' in the family tera" in error
    assert "'*wav*' matches a part of a name" in error
    assert main(["list", "nothing"]) == 1
    assert "part of a name" not in capsys.readouterr().err


def test_case_does_not_matter(capsys: pytest.CaptureFixture[str]) -> None:
    assert names_in(listed(capsys, "TERA")) == names_in(listed(capsys, "tera"))
    assert main(["list", "--family", "terra"]) == 1
    assert "no family is called 'terra'; expected one of cpc" in capsys.readouterr().err


def test_json_has_every_model_that_the_filters_leave(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert {*models} >= {record.name for record in RECORDS}
    mhubert = models["mhubert_147"]
    assert mhubert["is_non_commercial"]
    assert mhubert["paper"]["url"] == "https://arxiv.org/abs/2406.06371"
    assert models["fbank"]["paper"] is None
    assert main(["list", "npc", "--offline", "--json"]) == 0
    offline = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in offline] == ["npc_mini"]
    assert offline[0]["works_offline"]
