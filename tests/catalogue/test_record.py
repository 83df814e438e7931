"""Facts of published files: licences, dates, digests and sizes that others state."""

from __future__ import annotations

import datetime
import re
from collections import Counter

import pytest

from auricle.catalogue.family import RECORDS
from auricle.catalogue.record import PUBLIC_CODE, TEXTLESSLIB, is_non_commercial

STATED = {record.name: record.stated for record in RECORDS if record.stated}


def test_digests_and_sizes_are_whole_and_say_who_states_them() -> None:
    assert set(STATED) >= {"hubert_base", "wavlm_large", "xls_r_300m"}
    for files in STATED.values():
        assert max(Counter(file.place for file in files).values()) == 1
        for file in files:
            assert file.sha256 is not None or file.num_bytes is not None
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "0" * 64)
            assert (file.num_bytes or 1) > 0
            assert (file.commit is not None) == ("huggingface" in file.place or "hf:" in file.place)


def test_only_what_authors_state_is_called_so() -> None:
    sources = [(file.place, file.source) for files in STATED.values() for file in files]
    own = [place for place, source in sources if source != PUBLIC_CODE]
    assert own == ["https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960.pt"]
    assert dict(sources)[own[0]] == TEXTLESSLIB
    # None of them is a digest that a download must have.
    assert all(record.sha256 is None for record in RECORDS if record.stated)


def test_every_record_has_its_facts_or_none_that_are_empty() -> None:
    for record in RECORDS:
        if record.family == "baseline":
            assert not record.released
            continue
        assert datetime.date.fromisoformat(record.released)
        for fact in (record.licence, record.training_data):
            assert fact is None or fact.strip()
        if record.embedded:
            assert record.licence
            assert record.training_data


def test_licences_that_forbid_commercial_use() -> None:
    forbidding = {record.name for record in RECORDS if record.is_non_commercial}
    assert forbidding >= {"mhubert_147", "wav2vec2_large_voxpopuli_100k"}
    for record in RECORDS:
        licence = record.licence or ""
        assert record.is_non_commercial == ("NC" in licence.replace("-", " ").split()), record.name


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC BY-NC 4.0", True),
        ("cc-by-nc-sa-4.0, non-commercial", True),
        ("CC-BY-NC-ND 3.0", True),
        ("FAIR Noncommercial Research License", True),
        ("for research purposes only", True),
        ("Research-only, stated by its page", True),
        ("academic use only", True),
        ("not for commercial use", True),
        ("only for research", True),
        ("MIT, stated by the repository research/only", False),
        ("Apache-2.0, commercial use allowed", False),
        ("CC BY-SA 3.0", False),
        ("CC BY 4.0, as its speech", False),
        (None, False),
    ],
)
def test_words_of_licences(licence: str | None, expected: bool) -> None:
    assert is_non_commercial(licence) is expected
