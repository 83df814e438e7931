from __future__ import annotations

from typing import Any

import pytest
from card_pages import WIDTH, joined, page, published_model

from auricle.catalogue.record import Record
from auricle.catalogue.search import find


def test_a_page_says_what_the_encoder_is(repository: Any) -> None:
    sources = repository.sources()
    (apc, _) = sources.minis
    lines = page(apc, sources).splitlines()
    text = "\n".join(lines)
    assert lines[0] == "# `apc_mini`"
    assert "https://arxiv.org/abs/1904.03240" in text
    assert f"| parameters | {apc.encoder.info.num_parameters:,} |" in lines
    assert f"| sha256 | `{apc.record.sha256}` |" in lines
    assert "| frames | 100 a second (default layer) |" in lines
    assert (
        "| a frame sees | 25 ms and all that went before and statistics of the whole utterance |"
        in lines
    )
    assert 'encoder = auricle.load("apc_mini")' in lines
    prose = " ".join(text.split())
    assert "some speech. What was taken of it: 615 utterances, 2.03 hours; their names" in prose
    assert "(c) 2014 Vassil Panayotov" in prose
    assert "![Metrics of the training over its steps](apc_mini.png)" in lines
    assert "| wall time | 1 h 40 min |" in lines
    assert "| audio gone through | 2.5 hours |" in lines
    assert "| loss | 1 (mean up to step 10) to 0.5 (last line of the log) |" in lines
    assert text.endswith(f"```toml\n{apc.recipe.strip()}\n```")
    assert "auricle extract speech.wav --model apc_360hr --out apc_360hr" in lines


def test_every_layer_stands_beside_the_baselines(repository: Any) -> None:
    sources = repository.sources()
    text = page(sources.minis[0], sources)
    assert "without their phones" in " ".join(text.split())
    first, last = sources.minis[0].encoder.info.layers
    assert f"| `{first}` | 8 | 10 ms | 52.0 | 50.0 | 85.0 |" in text
    assert f"| `{last}` (default) | 8 | 10 ms | **62.0** | **60.0** | **95.0** |" in text
    assert "| *`fbank`, for comparison* | 8 | 10 ms | 50.0 | 40.0 | 98.0 |" in text
    assert "| *always the most frequent label* | - | - | 18.2 | 18.2 | 18.2 |" in text


def test_abx_of_every_layer_stands_beside_the_baselines(repository: Any) -> None:
    sources = repository.sources()
    assert "ABX" not in page(sources.minis[0], sources)
    repository.write_abx()
    sources = repository.sources()
    text = page(sources.minis[0], sources)
    first, last = sources.minis[0].encoder.info.layers
    assert f"| `{first}` | 8.0 | 16.0 |" in text
    assert f"| `{last}` (default) | 9.0 | 15.0 |" in text
    assert "| *`fbank`* | 8.3 | 17.6 |" in text
    assert text.count("| 16.0 |") == 1  # of no other mini


def test_other_steps_than_the_recipe_says_are_told(repository: Any) -> None:
    sources = repository.sources()
    apc, tera = sources.minis
    assert "trained with `--steps 20`" in " ".join(page(apc, sources).split())
    assert "--steps" not in page(tera, sources)


def test_a_note_has_its_section_and_its_absence_none(repository: Any) -> None:
    (repository.folder / "notes" / "apc_mini.md").write_text("Too short.\n")
    sources = repository.sources()
    apc, tera = sources.minis
    assert "\n\n## Notes\n\nToo short.\n\n" in page(apc, sources)
    assert "## Notes" not in page(tera, sources)


@pytest.mark.parametrize(
    ("name", "of", "expected"),
    [
        ("mockingjay", "mockingjay_100hr", "mockingjay_origin"),
        ("wav2vec2", "wav2vec2_base_960", "wav2vec2_base_960"),
        ("modified_cpc", "modified_cpc", "modified_cpc"),
        ("cpc", "cpc_2018", "modified_cpc"),
        ("pase", "pase_2019", "pase_plus"),
    ],
)
def test_the_published_model_is_of_the_same_paper_where_there_is_one(
    name: str, of: str, expected: str
) -> None:
    like = find(of)
    mini = Record(
        name=f"{name}_mini",
        family=like.family,
        urls=(),
        title=like.title,
        paper=like.paper,
    )
    better = published_model(mini)
    assert better is not None
    assert better.name == expected


def test_prose_is_wrapped_and_nothing_else() -> None:
    words, code = "word " * 30, "code " * 30
    text = joined([["# " + words, "", "- " + words], [], ["```", code, "```", "| " + words]])
    lines = text.split("\n")
    assert lines[0] == "# " + words
    assert lines[2].startswith("- word")
    assert lines[3].startswith("  word")
    assert max(map(len, lines[2:4])) <= WIDTH
    assert lines[4:] == ["", "```", code, "```", "| " + words, ""]
