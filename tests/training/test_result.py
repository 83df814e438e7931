from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

import auricle
from auricle.files.native import read_native
from auricle.training.building import build_objective
from auricle.training.corpus import Corpus
from auricle.training.recipe import Recipe
from auricle.training.result import write_result


def test_it_loads_and_says_how_it_came_to_be(
    tmp_path: Path, corpus: Corpus, edited: Callable[..., Recipe]
) -> None:
    recipe = edited(('name = "tiny"', 'name = "tiny"\nsave_as = "float16"'))
    encoder = build_objective(recipe).encoder
    path = tmp_path / "tiny.safetensors"
    write_result(path, encoder, recipe, corpus, 7)
    native = read_native(path)
    assert {weight.dtype for weight in native.weights.values()} == {torch.float16}
    assert encoder.dtype == torch.float32
    assert set(native.extra) == {"recipe", "steps", "audio", "code_version"}
    assert (native.extra["recipe"], native.extra["steps"]) == (recipe.text, "7")
    assert json.loads(native.extra["audio"])["sha256"] == corpus.digest
    assert f"auricle {auricle.__version__}" in native.extra["code_version"]
    loaded = auricle.load(path)
    assert (loaded.info.name, loaded.info.training_data) == ("tiny", "two voices")
    assert loaded.info.licence == "CC BY 4.0"
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.half().float())
