from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auricle.errors import RecipeError
from auricle.models.predictive_coding import ApcConfig
from auricle.training.recipe import Recipe, parse_recipe, read_recipe


def test_sections_are_typed(recipe: Recipe, recipe_text: str) -> None:
    assert (recipe.identity.name, recipe.identity.steps, recipe.identity.seed) == ("tiny", 8, 3)
    assert isinstance(recipe.encoder, ApcConfig)
    assert recipe.encoder.hidden_size == 16
    assert recipe.optimizer.betas == (0.9, 0.999)
    assert recipe.run.precision == "float32"
    assert recipe.text == recipe_text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "apc"', 'family = "ape"', "family must be one of cpc"),
        (
            'family = "apc"',
            'family = "baseline"',
            "baseline has no pretraining objective.* are .*apc, .*wav2vec2",
        ),
        ("hidden_size = 16", "hidden_size = 0", r"\[encoder\]: hidden_size must be at least 1"),
        (
            "hidden_size = 16",
            "hiden_size = 16",
            r"\[encoder\] has no option hiden_size; .*hidden_size",
        ),
        ("[data]", "[objective]\nmasks = 1\n[data]", r"\[objective\] has no option masks"),
        ("crop_seconds = 0.5", "crop_seconds = 3.0", "at most batch_seconds"),
        ("crop_seconds = 0.5", "crop_seconds = -1.0", "above 0"),
        ("steps = 8", "steps = 0", "steps must be at least 1"),
        ("steps = 8", "steps = 'many'", r"Expected `int`.*\$\.recipe\.steps"),
        ("warmup_steps = 2", "warmup_steps = -2", "warmup_steps"),
        ('kind = "cosine"', 'kind = "cubic"', "cubic"),
        ('name = "tiny"', 'name = "../tiny"', "name must be letters"),
        ("learning_rate = 1e-2", "learning_rate = 0", "learning_rate"),
        ("batch_seconds = 2.0", "", "batch_seconds"),
        ("[optimizer]", "[optimiser]", "optimi[sz]er"),
        ("[data]", "[date]\n[data]", r"a recipe has no section \[date\]; expected .*data, opt"),
        (
            "learning_rate = 1e-2",
            "lr = 1e-2",
            r"\[optimizer\] has no option lr; expected one of learning_rate, name, betas",
        ),
        ("steps = 8", "steps = = 8", "not TOML"),
    ],
)
def test_what_does_not_hold_is_named(
    old: str, new: str, message: str, recipe_text: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_lists_those_beside_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read .*tear\.toml.*; pass a TOML file"):
        read_recipe(tmp_path / "tear.toml")
    for name in ("tera", "apc"):
        (tmp_path / f"{name}.toml").touch()
    with pytest.raises(RecipeError, match=r"tear\.toml.* has apc\.toml, tera\.toml$"):
        read_recipe(tmp_path / "tear.toml")


def test_a_broken_import_of_an_objective_is_not_taken_for_a_missing_one(
    recipe_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "auricle.objectives.predictive_coding", raising=False)
    monkeypatch.setitem(sys.modules, "auricle.objectives.base", None)
    with pytest.raises(ModuleNotFoundError, match=r"auricle\.objectives\.base"):
        parse_recipe(recipe_text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml.*No such file"):
        read_recipe(tmp_path / "none.toml")


def test_the_digest_tells_what_decides_the_course(
    recipe: Recipe, recipe_text: str, edited: Callable[..., Recipe]
) -> None:
    assert parse_recipe("# words\n" + recipe_text).digest == recipe.digest
    assert edited(("log_every = 2", "log_every = 5")).digest == recipe.digest
    assert recipe.with_steps(5).digest == recipe.digest
    assert edited(("seed = 3", "seed = 4")).digest != recipe.digest
    assert edited(("hidden_size = 16", "hidden_size = 17")).digest != recipe.digest
    assert edited(("learning_rate = 1e-2", "learning_rate = 2e-2")).digest != recipe.digest


def test_the_recipes_of_the_repository_hold() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    paths = sorted(recipes.rglob("*.toml"))
    names = {path.stem for path in paths if path.parent == recipes}
    assert names == {path.stem for path in paths if path.parent.name == "mini"}
    assert len(names) == 13
    for path in paths:
        recipe = read_recipe(path)
        assert recipe.identity.name.removesuffix("_mini") == path.stem
        assert recipe.identity.name.endswith("_mini") == (path.parent.name == "mini")
