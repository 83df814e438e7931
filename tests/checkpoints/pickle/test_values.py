"""Values of the callables that a stream may name; test_pickle_machine.py reads them from streams."""

from __future__ import annotations

import numpy as np
import pytest

from auricle.checkpoints.pickle import values
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError


def scalar(code: str, data: object, order: str = "<") -> object:
    dtype = values.dtype((code, False, True))
    dtype.state = (3, order, None, None, None, -1, -1, 0)
    return values.scalar((dtype, data))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f8"])
def test_scalars_are_what_numpy_says(code: str, order: str) -> None:
    value = np.array(1, dtype=order + code)
    assert scalar(code, value.tobytes(), order) == value.item()
    assert scalar(code, value.tobytes().decode("latin-1"), order) == value.item()
    with pytest.raises(CheckpointError, match="too few or too many"):
        scalar(code, value.tobytes() + b"x", order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_text_of_numpy_is_text(order: str) -> None:
    value = np.array("aé語", dtype=f"{order}U5")
    assert scalar("U5", value.tobytes(), order) == "aé語"
    assert scalar("S5", b"ab\0\0\0", order) == b"ab"
    assert scalar("U1", b"\xff\xff\xff\xff", order) == "\ufffd"


def test_other_scalars_stay_records() -> None:
    for code in ("M8", "c8", "V4", "O8"):
        record = scalar(code, b"12345678")
        assert isinstance(record, InertRecord)
        assert record.type_name == "numpy.multiarray.scalar"


@pytest.mark.parametrize("args", [(), (3,), ("x" * 65,), (None, 0, 1)])
def test_dtypes_without_a_short_code_are_malformed(args: tuple[object, ...]) -> None:
    with pytest.raises(CheckpointError, match="malformed"):
        values.dtype(args)
