from __future__ import annotations

import pytest

from auricle.nn.layers import MAX_DEPTH, check_depth


def test_depths() -> None:
    check_depth(1)
    check_depth(MAX_DEPTH)
    for wrong in (0, -1, MAX_DEPTH + 1):
        with pytest.raises(ValueError, match=f"but has {wrong}"):
            check_depth(wrong)
