"""The data files of the families hold together, and say the sizes that their encoders have."""

from __future__ import annotations

import subprocess
import sys

import pytest

import auricle
from auricle.catalogue.family import FAMILIES, _parsed, _read_toml, find_family
from auricle.checkpoints.checkpoint import blank_encoder, build_encoder
from auricle.checkpoints.options import field_type
from auricle.errors import AuricleError, UnknownModelError
from auricle.models.predictive_coding import ApcConfig

CONTENT = {
    "title": "Some",
    "encoder": "auricle.models.predictive_coding:Apc",
    "config": "auricle.models.predictive_coding:ApcConfig",
    "input": "mel",
    "loss": "none",
}


def test_families_are_in_the_order_of_their_papers_and_baselines_last() -> None:
    dates = [family.paper.date for family in FAMILIES.values() if family.paper is not None]
    assert dates == sorted(dates)
    assert list(FAMILIES)[-1] == "baseline"
    assert all(family.stem == stem for stem, family in FAMILIES.items())


@pytest.mark.parametrize(("size", "stem"), auricle.list_sizes().items())
def test_parameters_are_those_of_the_encoder(size: str, stem: str) -> None:
    family = FAMILIES[stem]
    encoder = blank_encoder(family, family.preset(size))
    assert encoder.info.num_parameters == family.sizes[size].parameters
    assert encoder.family == stem


def test_published_counts() -> None:
    """Of papers and model cards, in millions; heads of pretraining are not counted."""
    published = {
        "hubert_base": 94.4, "hubert_large": 315.4, "wavlm_base": 94.4, "wavlm_large": 315.5,
        "data2vec_audio_base": 93.2, "modified_cpc": 1.84, "tera_base": 21.3, "distilhubert": 23.5,
        "omniasr_w2v_300m": 317.390592, "omniasr_w2v_1b": 965.514752, "omniasr_w2v_3b": 3064.124672,
        "omniasr_w2v_7b": 6488.487168,
    }  # fmt: skip
    sizes = {name: size for family in FAMILIES.values() for name, size in family.sizes.items()}
    for name, millions in published.items():
        assert sizes[name].parameters / 1e6 == pytest.approx(millions, rel=0.007), name


def test_records_have_the_family_s_title_and_paper_unless_they_name_their_own() -> None:
    records = [{"name": "a"}, {"name": "b", "title": "Other"}]
    paper = {"title": "T", "arxiv": "1", "date": "2020-01-01"}
    family = _parsed("some", {**CONTENT, "paper": paper, "records": records})
    assert [record.title for record in family.records] == ["Some", "Other"]
    assert all(record.paper == family.paper is not None for record in family.records)
    assert all(record.family == "some" for record in family.records)


FILE = "^catalogue/families/some.toml: "


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"titel": "x"}, "unknown key `titel`; the keys are the attributes of Family"),
        (
            {"records": [{"name": "a", "url": "x"}]},
            r"unknown key `url` at `records\[0\]`; the keys",
        ),
        ({"sizes": {"a": {"config": {}}}}, r"missing key `parameters` at `sizes\[...\]`; the keys"),
        ({"loss": 3}, "Expected `str`, got `int` at `loss`; the keys"),
        ({"records": 3}, r"records must be tables; write \[\[records\]\]"),
        (
            {"sizes": {"b": {"parameters": 1}}, "records": [{"name": "a", "size": "c"}]},
            r"the size c of the record a has no table; add \[sizes.c\], or name one of b$",
        ),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_the_file(
    fault: dict[str, object], message: str
) -> None:
    with pytest.raises(AuricleError, match=FILE + message):
        _parsed("some", {**CONTENT, **fault})


@pytest.mark.parametrize("toml", [b"title =", b"title = '\xff'"])
def test_a_file_that_is_no_toml_is_named(toml: bytes) -> None:
    with pytest.raises(AuricleError, match=FILE + "it is not TOML in UTF-8: .*; correct that line"):
        _read_toml("some", toml)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("auricle.models.predictive_coding:Nope", "auricle.models.predictive_coding has no Nope"),
        ("auricle.models.gone:Apc", "auricle.models.gone: ModuleNotFoundError: .*"),
        ("Apc", "'Apc' names no class"),
        (
            "auricle.models.predictive_coding:ApcConfig",
            "auricle.models.predictive_coding:ApcConfig must be a subclass of .*",
        ),
    ],
)
def test_a_wrong_class_is_refused_with_the_file(name: str, message: str) -> None:
    family = _parsed("some", {**CONTENT, "encoder": name})
    with pytest.raises(AuricleError, match=f"{FILE}{message}; name a class as package.module:Cl"):
        family.encoder_type()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": 2}, "unknown key `layers`"),
        ({"num_layers": "two"}, "Expected `int`, got `str` at `num_layers`"),
    ],
)
def test_a_wrong_option_of_a_size_is_refused_with_the_file(
    config: dict[str, object], message: str
) -> None:
    family = _parsed("some", {**CONTENT, "sizes": {"a": {"parameters": 1, "config": config}}})
    advice = "compare it with auricle.models.predictive_coding:ApcConfig"
    with pytest.raises(AuricleError, match=f"{FILE}its size a does not hold: {message}; {advice}"):
        family.preset("a")


def test_a_family_may_take_another_one_s_class() -> None:
    family = _parsed(
        "some", {**CONTENT, "sizes": {"a": {"parameters": 1, "config": {"num_layers": 2}}}}
    )
    encoder = build_encoder(family, family.preset("a"))
    assert encoder.family == encoder.info.family == "some"
    assert encoder.config == ApcConfig(num_layers=2)


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownModelError, match=r"'terra'; expected one of cpc, apc, .*baseline"):
        find_family("terra")


def test_sizes_are_listed_without_torch() -> None:
    code = "import sys, auricle; auricle.list_sizes(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_module_is_not_taken_for_a_missing_objective() -> None:
    with pytest.raises(LookupError, match="the family some has no pretraining objective"):
        _parsed("some", CONTENT).objective_type()
    with pytest.raises(AuricleError, match=FILE + "auricle.objectives.gone: ModuleNotFoundError"):
        _parsed("some", {**CONTENT, "objective": "auricle.objectives.gone:Loss"}).objective_type()


def test_every_class_and_option_that_a_family_names_is_there() -> None:
    for family in FAMILIES.values():
        assert family.encoder_type()
        for spec in family.formats.values():
            for name in spec.fields:
                assert field_type(family.config_type(), name) is not None
        if family.objective is not None:
            assert family.objective_type()
