"""Exceptions that the library raises on purpose, and its deprecation warning."""

from __future__ import annotations

import sys
import warnings

OWN_FRAMES = ("auricle.", "torch.")
"""Modules whose frames are not the caller of a deprecated spelling."""


class AuricleError(Exception):
    """Base of all errors that the library raises on purpose."""


class AudioError(AuricleError, ValueError):
    """A waveform or an audio file that cannot be encoded; the message names it and the reason."""


class LayerError(AuricleError, ValueError):
    """A layer that the encoder does not have; the message lists those it has."""


class UnknownModelError(AuricleError, ValueError):
    """A name that is not in the catalogue; the message lists close matches."""


class CheckpointError(AuricleError, ValueError):
    """A checkpoint that is unsafe, damaged, unrecognised or does not fit its encoder."""


class DownloadError(AuricleError, OSError):
    """A file that could not be fetched; the message lists each place tried and its reason."""


class ChecksumError(DownloadError):
    """A file whose digest differs from the recorded one; the file has been removed."""


class OutputError(AuricleError, OSError):
    """A result that could not be written; no partial file is left."""


class MissingExtraError(AuricleError, ImportError):
    """An optional package that is missing, or does not import; the message names what is missing.

    `name` is the module that is missing, which may be one that the package itself imports; the
    error of the import is the `__cause__`.
    """


class RecipeError(AuricleError, ValueError):
    """A pretraining recipe that cannot be read, or that does not fit what it is used with."""


class TrainingError(AuricleError, RuntimeError):
    """A training that cannot continue; the message names the last good checkpoint."""


class PlugInError(AuricleError, RuntimeError):
    """A plug-in that cannot be used; the message names its package and its entry point."""


class ExtractionError(AuricleError, RuntimeError):
    """An extraction that stopped: at an utterance by `on_error="stop"`, or a process died."""


class StoreError(AuricleError, ValueError):
    """A store that is missing, truncated or damaged; the message says how to repair it."""


class UnknownUtteranceError(AuricleError, KeyError):
    """An id that is not in a store; the message lists close matches."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes


def warn_deprecated(message: str) -> None:
    """Issue a DeprecationWarning at the first caller outside of auricle and torch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(OWN_FRAMES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DeprecationWarning, stacklevel=level)
