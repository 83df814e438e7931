"""Digests and sizes that others state of published files."""

from __future__ import annotations

import re
from collections import Counter

from auricle.catalogue.family import RECORDS
from auricle.catalogue.record import PUBLIC_CODE, TEXTLESSLIB

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
