"""The catalogue: its data holds together, and names find what they mean."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import auricle
from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES, RECORDS, find_family
from auricle.catalogue.record import Record
from auricle.errors import UnknownModelError

BASELINES = [
    "fbank",
    "mel",
    "mfcc",
    "mfcc_deltas",
    "s3prl_fbank",
    "s3prl_linear",
    "s3prl_mel",
    "spectrogram",
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_record_is_complete(record: Record) -> None:
    assert record.family in FAMILIES
    assert all(name.isidentifier() for name in record.names)
    if record.family == "baseline":
        assert record.urls == ()
        assert record.released == ""
        return
    if record.embedded:
        assert record.urls == ()
        assert record.sha256 is not None
    else:
        assert record.urls or "never published" in record.note
    assert all(urlsplit(url).scheme in ("https", "hf") for url in record.urls)
    assert len({Path(urlsplit(url).path).suffix for url in record.urls if "hf:" not in url}) <= 1
    on_hub = ["huggingface.co" in url or url.startswith("hf://") for url in record.urls]
    assert on_hub == sorted(on_hub, reverse=True), "Hugging Face comes first"
    assert record.training_data is not None
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", record.released)
    assert record.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", record.sha256)


def test_names_and_urls_are_unique() -> None:
    names = [name for record in RECORDS for name in record.names]
    urls = [url for record in RECORDS for url in record.urls]
    assert len(names) == len(set(names))
    assert len(urls) == len(set(urls))


def test_every_model_names_a_published_size_of_its_family() -> None:
    sizes = auricle.list_sizes()
    for record in RECORDS:
        if record.family != "baseline" and not record.embedded:
            assert record.size is not None
            assert sizes[record.size] == record.family


def test_the_seed_models_are_all_there() -> None:
    """The twelve rows of the table that this library began with: name, paper, weights or not."""
    rows = [
        ("cpc_2018", "1807.03748", False),
        ("apc", "1904.03240", True),
        ("pase", "1904.03416", False),
        ("wav2vec", "1904.05862", True),
        ("vq_wav2vec", "1910.05453", True),
        ("mockingjay", "1910.12638", True),
        ("cpc", "2002.02848", True),
        ("vq_apc", "2005.08392", True),
        ("audio_albert", "2005.08575", True),
        ("wav2vec2", "2006.11477", True),
        ("tera", "2007.06028", True),
        ("npc", "2011.00406", True),
    ]
    for name, arxiv, is_published in rows:
        record = search.find(name)
        assert record.paper is not None
        assert (record.paper.arxiv, bool(record.urls)) == (arxiv, is_published)


def test_every_family_answers_to_its_own_name() -> None:
    for stem in FAMILIES:
        if stem != "baseline":
            assert search.find(stem).family == stem


@pytest.mark.parametrize(
    ("name", "first_url", "hours"),
    [
        (
            "tera",
            "https://huggingface.co/s3prl/tera/resolve/main/"
            "tera_logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1/states-1000000.ckpt",
            "960 h",
        ),
        (
            "mockingjay",
            "https://huggingface.co/s3prl/mockingjay/resolve/main/"
            "mockingjay_logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1/states-500000.ckpt",
            "360 h",
        ),
        (
            "mockingjay_logMelBase_T_AdamW_b32_200k_100hr",
            "https://www.dropbox.com/s/luorglf8mdg67l2/states-200000.ckpt?dl=1",
            "100 h",
        ),
        (
            "mockingjay_960hr",
            "https://www.dropbox.com/s/7f9z6dzc7oix6qv/states-1000000.ckpt?dl=1",
            "960 h",
        ),
        (
            "npc",
            "https://huggingface.co/leo19941227/apc_series/resolve/main/npc_360hr.ckpt",
            "360 h",
        ),
    ],
)
def test_names_mean_what_they_always_meant(name: str, first_url: str, hours: str) -> None:
    record = search.find(name)
    assert record.urls[0] == first_url
    assert record.training_data is not None
    assert hours in record.training_data


@pytest.mark.parametrize(
    ("typo", "meant"), [("tera_960h", "tera_960hr"), ("TERA", "tera"), ("vq-apc", "vq_apc")]
)
def test_an_unknown_name_gets_close_matches(typo: str, meant: str) -> None:
    with pytest.raises(UnknownModelError, match=f"{typo}.*close matches:.*{meant}.*auricle list"):
        search.find(typo)


@pytest.mark.parametrize("name", ["qqqqqqq", "", "\0"])
def test_a_name_close_to_nothing_still_points_to_the_list(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"see `auricle list`") as caught:
        search.find(name)
    assert "close" not in str(caught.value)


def test_names_of_s3prl_are_listed_once() -> None:
    names = search.s3prl_names()
    groups = (names.models, *names.checkpoints.values(), *(other.names for other in names.others))
    everything = [name for group in groups for name in group]
    assert len(everything) == len(set(everything)) == 193


def test_every_name_of_s3prl_is_found_or_refused_with_its_family() -> None:
    names = search.s3prl_names()
    for name in names.models:
        assert name in search.find(name).names
    for stem, entries in names.checkpoints.items():
        for name in entries:
            with pytest.raises(UnknownModelError) as caught:
                auricle.load(name)
            assert str(caught.value).startswith(f"{name} of s3prl, of the family ")
            assert f"{FAMILIES[stem].title}, takes a checkpoint" in str(caught.value)
    for other in names.others:
        for name in other.names:
            with pytest.raises(UnknownModelError) as caught:
                auricle.load(name)
            message = str(caught.value)
            assert message.startswith(f"{name} of s3prl, of the family {other.title}, is not here")
            assert message.endswith(other.reason or "a plug-in can add it")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("hubert_large_ll60k", "hubert_large"),
        ("data2vec_base_960", "data2vec_audio_base"),
        ("data2vec_large_ll60k", "data2vec_audio_large"),
        ("distilhubert_base", "distilhubert"),
        ("contentvec", "contentvec_km100"),
        ("unispeech_sat", "unispeech_sat_base_plus"),
        ("wavlm", "wavlm_base_plus"),
    ],
)
def test_names_of_s3prl_mean_the_same_checkpoints(name: str, own: str) -> None:
    assert search.find(name).name == own


def test_list_is_by_date_then_name_with_baselines_last() -> None:
    names = search.list_models()
    assert sorted(names) == sorted(record.name for record in RECORDS)
    published = [name for name in names if not search.find(name).embedded]
    assert published[:3] == ["cpc_2018", "apc_360hr", "apc_960hr"]
    assert names[-8:] == BASELINES
    dates = [search.find(name).released for name in names[:-8]]
    assert dates == sorted(dates)
    tera = [name for name in names if name.startswith("tera")]
    assert tera == sorted(tera)


def test_list_takes_a_pattern_and_a_family() -> None:
    assert search.list_models("tera") == ["tera_960hr"]
    assert search.list_models("*_logMelLinear*") == ["mockingjay_origin"]
    assert search.list_models("apc*") == ["apc_360hr", "apc_960hr", "apc_mini"]
    assert search.list_models(family="baseline") == BASELINES
    assert search.list_models("*960*", family="npc") == ["npc_960hr"]
    assert search.list_models("nothing*") == []
    with pytest.raises(UnknownModelError, match=r"hubert_x.*expected one of.*tera"):
        search.list_models(family="hubert_x")


def test_the_catalogue_needs_no_heavy_import() -> None:
    code = (
        "import sys, auricle.catalogue.search, auricle.hub.download; "
        "print(sorted({'torch', 'numpy', 'httpx', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_say_whether_authors_normalise() -> None:
    normalize = {
        record.name: record.normalize for record in RECORDS if record.normalize is not None
    }
    # As torchaudio 2.9.0 has it for the authors' files, data2vec's configuration, that in the
    # repository of ContentVec, and the code of DistilHuBERT.
    assert normalize == {
        "wav2vec2_base_960": False,
        "wav2vec2_large_960": False,
        "wav2vec2_large_ll60k": True,
        "xlsr_53": True,
        "xls_r_300m": True,
        "xls_r_1b": True,
        "xls_r_2b": True,
        "hubert_base": False,
        "hubert_large": True,
        "hubert_xlarge": True,
        "distilhubert": False,
        "contentvec_km100": False,
        "contentvec_km500": False,
        "wavlm_base": False,
        "wavlm_base_plus": False,
        "wavlm_large": True,
        "data2vec_audio_base": True,
    }
    for name, expected in normalize.items():
        record = search.find(name)
        assert record.size is not None
        assert getattr(find_family(record.family).preset(record.size), "normalize") is expected  # noqa: B009 - not every config has it
    for name in ("wav2vec2_large_lv60_cv_swbd_fsh", "data2vec_audio_large"):
        assert "not known from elsewhere" in search.find(name).note


def test_rows_of_what_was_never_published_say_what_the_papers_say() -> None:
    for name, data in (
        ("cpc_2018", "LibriSpeech train-clean-100 (100 h)"),
        ("pase_2019", "LibriSpeech (10 h)"),
        ("pase_plus", "LibriSpeech (50 h)"),
    ):
        assert search.find(name).training_data == data
        assert "LibriSpeech" not in search.find(name).note


def test_what_looks_like_a_repository_gets_a_hint() -> None:
    assert search.repository_hint("owner/name").endswith("hf://owner/name")
    assert search.repository_hint(Path("owner/na.me-2")).endswith("hf://owner/na.me-2")
    for other in ("name", "./name", "a/b/c", "../b", Path("/owner/name"), "a b/c"):
        assert not search.repository_hint(other)
