from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from card_index import index, readme_part, shortfalls
from card_pages import page
from card_sources import read_sources


def test_the_readme_says_how_many_there_are_and_where_more_is(repository: Any) -> None:
    part = readme_part(repository.sources())
    assert part.startswith("2 small encoders (")
    assert "(docs/models/README.md)" in part
    assert "|" not in part
    assert part.endswith("\n")


def test_the_readme_says_nothing_where_nothing_is_embedded(repository: Any) -> None:
    assert readme_part(read_sources(repository.folder, [])) == ""


def test_gains_are_counted_by_best_and_by_default_layer(repository: Any) -> None:
    text = " ".join(index(repository.sources()).split())
    assert "On phones 1 of 2 beat `fbank` and " in text
    assert "1 of 2 beat `fbank` on at least one task by 5 points or more" in text
    assert "| [`apc_mini`](apc_mini.md) | +12.0 | +12.0 | +20.0 | +20.0 | -3.0 | -3.0 |" in text
    assert text.index("| +12.0 |") < text.index("| +4.0 |")


def test_what_falls_short_is_said_with_its_reason(repository: Any) -> None:
    (repository.folder / "notes" / "tera_mini.md").write_text("It has\none layer.\n")
    sources = repository.sources()
    apc, tera = (list(shortfalls(mini, sources)) for mini in sources.minis)
    assert apc == ["- [`apc_mini`](apc_mini.md): 3.0 points below `fbank` on speakers."]
    assert tera == [
        "- [`tera_mini`](tera_mini.md): +4.0 points on phones, where 8 were asked for; no task by "
        "5 points or more. It has one layer."
    ]
    text = index(sources).replace("\n  ", " ")
    assert apc[0] in text
    assert tera[0] in text


def test_the_commands_name_every_mini(repository: Any) -> None:
    lines = index(repository.sources()).splitlines()
    trained = [line for line in lines if line.startswith("auricle pretrain")]
    assert trained == [
        "auricle pretrain recipes/mini/apc.toml --data corpora/librispeech/train "
        "--out runs/apc_mini --cache-audio --steps 20",
        "auricle pretrain recipes/mini/tera.toml --data corpora/librispeech/train "
        "--out runs/tera_mini --cache-audio",
    ]
    assert "auricle probe --models apc_mini,tera_mini,fbank,mel \\" in lines


def test_abx_has_a_row_for_each_model_and_its_command(repository: Any) -> None:
    assert "ABX" not in index(repository.sources())
    repository.write_abx()
    text = index(repository.sources())
    assert "| [`apc_mini`](apc_mini.md) | 9.0 (rnn_2) |" in text
    assert "| `fbank` | 8.3 (features) | 8.3 | 17.6 (features) | 17.6 |" in text
    assert "auricle probe --models apc_mini,tera_mini,fbank,mel --task abx \\" in text


def test_a_mini_that_has_not_heard_the_phone_probe_is_excepted(repository: Any) -> None:
    repository.write_abx()
    sources = repository.sources()
    apc, tera = sources.minis
    assert "without their phone labels. " in " ".join(index(sources).split())
    assert "The utterances of the phone probe are part of the training" in " ".join(
        page(apc, sources).split()
    )
    held = "LibriSpeech, none of those of the phone probe"
    record = msgspec.structs.replace(apc.record, training_data=held)
    apc = dataclasses.replace(apc, record=record)
    sources = dataclasses.replace(sources, minis=(apc, tera))
    text = " ".join(index(sources).split())
    assert "without their phone labels, but not of that of `apc_mini`. " in text
    assert "whose utterances the minis but `apc_mini` have heard without labels" in text
    assert (
        "--data corpora/librispeech/train/[!12]* corpora/librispeech/train/[12]??* "
        "--out runs/apc_mini"
    ) in text
    card = " ".join(page(apc, sources).split())
    assert "No utterance and no speaker of the probes is part" in card
