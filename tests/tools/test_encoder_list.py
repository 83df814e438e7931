"""The tables of encoders in the README and in docs/encoders.md are those of the catalogue."""

from __future__ import annotations

from pathlib import Path

import encoder_list
import pytest

from auricle.catalogue.family import FAMILIES
from auricle.catalogue.search import find, list_models, s3prl_names


def test_the_pages_are_current() -> None:
    for path, text in encoder_list.expected().items():
        assert path.read_text() == text, "run python tools/encoder_list.py"


def test_the_readme_has_one_row_a_family() -> None:
    rows = encoder_list.family_table().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows[:2]] == ["CPC", "APC"]
    assert sorted(row.split("|")[1].strip() for row in rows) == sorted(
        family.title for family in FAMILIES.values()
    )
    (apc,) = (row for row in rows if row.startswith("| APC |"))
    assert apc == (
        "| APC | [1904.03240](https://arxiv.org/abs/1904.03240) | `apc`, `apc_960hr` | `apc_mini` "
        "| 512 | 3 | 100 |"
    )


def test_a_model_that_was_never_published_is_on_the_page_alone() -> None:
    page, readme = encoder_list.PAGE.read_text(), encoder_list.family_table()
    for name in list_models():
        record = find(name)
        assert f"`{name}`" in page
        if not record.urls and not record.embedded and record.family != encoder_list.BASELINE:
            assert not any(f"`{alias}`" in readme for alias in record.names), name


def test_every_model_has_its_facts_on_the_page() -> None:
    rows = encoder_list.model_tables().splitlines()
    for name in list_models():
        record = find(name)
        (row,) = (line for line in rows if line.startswith((f"| `{name}` |", f"| `{name}`, ")))
        _, _, size, paper, data, weights, licence, _ = (cell.strip() for cell in row.split("|"))
        if record.family == encoder_list.BASELINE:
            assert {size, paper, data, weights, licence} == {"-"}
            continue
        assert f"{record.released}](" in paper
        assert data == (record.training_data or "not known")
        assert licence.endswith(record.licence or "not known")
        assert licence.startswith("**not for commercial use:**") == record.is_non_commercial
        assert weights
        assert (size == "-") == (record.size is None)


def test_every_family_has_its_formats_on_the_page() -> None:
    rows = encoder_list.formats_table().splitlines()[2:]
    assert len(rows) == len(FAMILIES)
    page = encoder_list.PAGE.read_text()
    for stem, family in FAMILIES.items():
        (row,) = (line for line in rows if f"| `{stem}` |" in line)
        assert all(f"`{name}`" in row for name in family.formats)
        assert f"### {family.title} {{ #{stem} }}" in page


def test_parameters_are_rounded_to_three_digits() -> None:
    counts = (1_844_000, 94_371_712, 2_159_260_000)
    assert [encoder_list._millions(count) for count in counts] == ["1.84 M", "94.4 M", "2,159 M"]


def test_every_entry_point_of_s3prl_is_in_the_tables() -> None:
    tables = encoder_list.s3prl_tables()
    names = s3prl_names()
    groups = (names.models, *names.checkpoints.values(), *(other.names for other in names.others))
    for group in groups:
        for name in group:
            assert tables.count(f"`{name}`,") + tables.count(f"`{name}` |") == 1, name
    assert "have the same 193 entry points" in tables
    assert "| data2vec audio | `data2vec`, `data2vec_base_960`, `data2vec_large_ll60k` |" in tables


@pytest.mark.parametrize(
    ("values", "shown"), [([3, 3], "3"), ([1024, 768], "768, 1024"), ([4, 7, 13], "4 to 13")]
)
def test_sizes_of_a_family_are_summed_up(values: list[int], shown: str) -> None:
    assert encoder_list._span(values) == shown


def test_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("old")
    monkeypatch.setattr(encoder_list, "ROOT", tmp_path)
    monkeypatch.setattr(encoder_list, "expected", lambda: {page: "new"})
    with pytest.raises(SystemExit, match="page.md is not current"):
        encoder_list.main(["--check"])
    assert page.read_text() == "old"
    encoder_list.main([])
    encoder_list.main(["--check"])
    assert page.read_text() == "new"
