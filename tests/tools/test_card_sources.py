from __future__ import annotations

from typing import Any

import pytest
from card_sources import read_sources

from auricle.errors import AuricleError


def test_everything_known_of_an_encoder_is_gathered(repository: Any) -> None:
    (repository.folder / "notes" / "apc_mini.md").write_text("Too short.\n")
    sources = repository.sources()
    apc, tera = sources.minis
    assert (apc.name, apc.recipe_stem, apc.num_steps, apc.note) == (
        "apc_mini",
        "apc",
        20,
        "Too short.",
    )
    assert apc.weights_type == "float16"
    assert apc.num_bytes == repository.path_of(apc.record).stat().st_size
    assert (apc.audio.utterances, apc.audio.hours, apc.audio.sha256) == (615, 2.031, "cd34")
    assert [line["step"] for line in tera.metrics] == [10, 20, 30, 40]
    assert [(r.model, r.task) for r in sources.results] == [
        (model, task)
        for model in ("apc_mini", "tera_mini", "fbank", "mel")
        for task in ("phones", "words", "speakers")
    ]


def test_without_embedded_encoders_there_is_nothing(repository: Any) -> None:
    assert read_sources(repository.folder / "none", []).results == []


def test_results_of_other_weights_are_refused(repository: Any) -> None:
    repository.write_probes(sha256="ef56")
    with pytest.raises(AuricleError, match="apc_mini for phones are of the weights ef56, but"):
        repository.sources()


@pytest.mark.parametrize("model", ["tera_mini", "mel"])
def test_a_model_without_results_is_named(repository: Any, model: str) -> None:
    repository.write_probes(left_out=model)
    with pytest.raises(AuricleError, match=f"{model} has no results for phones, words, speakers"):
        repository.sources()


def test_the_log_must_be_of_the_run_that_gave_the_weights(repository: Any) -> None:
    repository.write_log("apc_mini", last_step=30)
    with pytest.raises(AuricleError, match="ends at step 30, but its weights are of step 20"):
        repository.sources()
    repository.write_log("apc_mini", last_step=0)
    with pytest.raises(AuricleError, match="apc_mini.jsonl is empty; copy"):
        repository.sources()
    (repository.folder / "training" / "apc_mini.jsonl").unlink()
    with pytest.raises(AuricleError, match="cannot read .*apc_mini.jsonl"):
        repository.sources()


def test_abx_is_of_the_weights_in_the_order_of_the_minis(repository: Any) -> None:
    assert repository.sources().abx == ()
    repository.write_abx()
    models = [result.model for result in repository.sources().abx]
    assert models == ["apc_mini", "tera_mini", "fbank", "mel"]
    repository.write_abx(sha256="ef56")
    with pytest.raises(AuricleError, match="has no result of apc_mini with the weights"):
        repository.sources()
