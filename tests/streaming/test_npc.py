from __future__ import annotations

import pytest

from auricle.errors import AuricleError
from golden_cases import shared_encoder


def test_npc_is_refused() -> None:
    with pytest.raises(AuricleError, match=r"npc .*look ahead as far as they look back"):
        shared_encoder("npc").stream()
