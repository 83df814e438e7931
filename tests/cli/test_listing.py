from __future__ import annotations

import pytest

from auricle.__main__ import main
from auricle.cli.listing import WIDTH
from auricle.hub.catalogue import find, list_models


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


def names_in(table: str) -> list[str]:
    """First word of each row; rows are indented by two, notes by more."""
    lines = table.splitlines()[1:]
    return [line.split()[0] for line in lines if line[:2] == "  " and line[2:3].strip()]


def test_every_model_in_order_with_its_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    table = listed(capsys)
    assert names_in(table) == list_models()
    words = table.replace(",", " ").split()
    for name in list_models():
        for alias in find(name).aliases:
            assert alias in words
    assert max(map(len, table.splitlines())) <= WIDTH


def test_a_row_tells_what_the_catalogue_and_the_family_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = listed(capsys, "npc_960hr")
    header, _, family, row = table.splitlines()[:4]
    columns = ["name", "model", "published", "paper", "input", "pretraining data", "weights"]
    assert header.split("  ")[1] == "name"
    assert [column for column in columns if column in header] == columns
    assert family == "NPC: CNN, reconstruction with masked convolution blocks"
    assert [cell for cell in row.split("  ") if cell] == [
        "npc_960hr", "NPC", "2020-11-01", "2011.00406", "mel", "LibriSpeech (960 h)", "yes"
    ]  # fmt: skip


def test_baselines_come_last_and_need_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    table = listed(capsys)
    assert names_in(table)[-4:] == ["fbank", "mel", "mfcc", "spectrogram"]
    (row,) = (line for line in table.splitlines() if line.startswith("  mfcc "))
    assert row.split()[2:] == ["-", "-", "wave", "-", "-"]


def test_patterns_and_families_narrow_it_down(capsys: pytest.CaptureFixture[str]) -> None:
    assert names_in(listed(capsys, "--family", "npc")) == ["npc_360hr", "npc_960hr"]
    assert names_in(listed(capsys, "vq_*_360hr")) == ["vq_apc_360hr"]


def test_no_match_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "wav", "--family", "tera"]) == 1
    assert "no model's name is like 'wav' in the family tera" in capsys.readouterr().err
