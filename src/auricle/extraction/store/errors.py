"""What can go wrong with a store that is read."""

from __future__ import annotations

from auricle.errors import AuricleError


class StoreError(AuricleError, ValueError):
    """A store that cannot be read: not there, cut or damaged; the message says what mends it."""


class UnknownUtteranceError(AuricleError, KeyError):
    """An id that a store does not hold; the message lists close matches."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes
