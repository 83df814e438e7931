"""NPC does not stream."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.npc import Npc
from auricle.models.stream import Step, refusal


def steps(encoder: Npc) -> Iterator[Step]:
    """Raises AuricleError, with the reason."""
    raise refusal(encoder, "its convolutions look ahead as far as they look back, in every block")
