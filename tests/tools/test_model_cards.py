"""The tool writes and checks; and the cards of this repository are what it would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from card_sources import BASELINES, TASKS, embedded_records, read_sources
from model_cards import cards_folder, differences, main, write

from auricle.catalogue.record import Record
from auricle.files.atomic import file_sha256
from auricle.files.safetensors import read_native
from auricle.hub.cache import embedded_path
from auricle.probing.report import read_results
from auricle.training.recipe import parse_recipe, read_recipe

ROOT = Path(__file__).parents[2]
MINIS = embedded_records()


def each_mini(test: Any) -> Any:
    return pytest.mark.parametrize("record", MINIS, ids=lambda record: record.name)(test)


def test_the_cards_are_current() -> None:
    stale = differences(read_sources(cards_folder(ROOT)), ROOT)
    assert stale == [], "run `make cards`"


@each_mini
def test_every_mini_has_a_card_and_a_picture(record: Record) -> None:
    card = cards_folder(ROOT) / f"{record.name}.md"
    assert card.read_text().startswith(f"# `{record.name}`\n")
    assert card.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("task", TASKS)
@each_mini
def test_results_are_of_the_weights_in_the_package(record: Record, task: str) -> None:
    results = read_results(cards_folder(ROOT) / "probes" / f"{task}.json").results
    (own,) = (result for result in results if result.model == record.name)
    assert own.weights_sha256 == file_sha256(embedded_path(record))


@pytest.mark.parametrize("task", TASKS)
def test_the_baselines_were_probed_as_the_minis_were(task: str) -> None:
    results = read_results(cards_folder(ROOT) / "probes" / f"{task}.json").results
    assert (cards_folder(ROOT) / "probes" / f"{task}.png").is_file()
    (mini,) = (result for result in results if result.model == MINIS[0].name)
    for name in BASELINES:
        (own,) = (result for result in results if result.model == name)
        assert own.weights_sha256 is None
        assert (own.folds, own.seed, own.num_classes) == (mini.folds, mini.seed, mini.num_classes)


@each_mini
def test_a_mini_was_trained_by_the_recipe_of_its_name(record: Record) -> None:
    stem = record.name.removesuffix("_mini")
    current = read_recipe(ROOT / "recipes" / "mini" / f"{stem}.toml")
    trained = parse_recipe(read_native(embedded_path(record)).extra["recipe"])
    assert trained.digest == current.digest


def test_what_was_written_is_current_until_something_changes(repository: Any) -> None:
    root, folder = repository.root, repository.folder
    sources = repository.sources()
    written = list(write(sources, root))
    assert {path.name for path in written} == {
        "README.md", "apc_mini.md", "apc_mini.png", "tera_mini.md", "tera_mini.png",
    }  # fmt: skip
    readme = (root / "README.md").read_text()
    assert readme.startswith("before\n<!-- minis: `make cards` -->\n2 small encoders (")
    assert readme.endswith("<!-- /minis -->\nafter\n")
    assert differences(sources, root) == []

    page, picture, stray = folder / "apc_mini.md", folder / "tera_mini.png", folder / "x_mini.md"
    page.write_text(page.read_text().replace("62.0", "63.0"))
    picture.unlink()
    stray.write_text("")
    assert differences(sources, root) == [page, picture, stray]
    (root / "README.md").write_text(readme.replace("2 small", "3 small"))
    assert root / "README.md" in differences(sources, root)
    list(write(sources, root))
    assert differences(sources, root) == []
    assert not stray.exists()


def test_the_command_says_what_is_not_current(
    repository: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model_cards.read_sources", lambda folder: repository.sources())
    with pytest.raises(
        SystemExit, match=r"not current: README.md, .*tera_mini.png; run `make cards`"
    ):
        main(["--check"], root=repository.root)
    main([], root=repository.root)
    assert "wrote docs/models/apc_mini.md" in capsys.readouterr().out.replace("\\", "/")
    main(["--check"], root=repository.root)
    (repository.root / "README.md").write_text("no markers\n")
    with pytest.raises(SystemExit, match="error: .*README.md lacks the markers"):
        main(["--check"], root=repository.root)
