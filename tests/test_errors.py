from __future__ import annotations

from auricle.errors import AuricleError, UnknownUtteranceError


def test_an_unknown_id_is_a_key_error_that_reads_well() -> None:
    error = UnknownUtteranceError("holds no 'x'")
    assert isinstance(error, KeyError)
    assert isinstance(error, AuricleError)
    assert str(error) == "holds no 'x'"
