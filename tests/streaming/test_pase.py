from __future__ import annotations

import pytest

from auricle.errors import AuricleError
from golden_cases import shared_encoder


def test_pase_is_refused_and_pase_plus_for_one_more_reason() -> None:
    with pytest.raises(AuricleError, match="mirror the end of the waveform; call"):
        shared_encoder("pase").stream()
    with pytest.raises(AuricleError, match="mirror the end of the waveform; its skips"):
        shared_encoder("pase_plus").stream()
