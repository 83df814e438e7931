"""PASE and PASE+ do not stream."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.models.pase import Pase
from auricle.models.stream import Step, refusal


def steps(encoder: Pase) -> Iterator[Step]:
    """Raises AuricleError, with the reason."""
    reason = "its convolutions look ahead in every block, and mirror the end of the waveform"
    if encoder.config.num_skips:
        reason += "; its skips (PASE+) are averages over groups that the whole length decides"
    raise refusal(encoder, reason)
