"""auricle: one interface for every self-supervised speech encoder.

`auricle.load(name_or_path)` gives an encoder; called with a list of waveforms it returns a list
of representations, each `(frames, dim)`, the same alone and in any batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auricle.catalogue.search import list_models as list_models
    from auricle.catalogue.search import list_sizes as list_sizes
    from auricle.checkpoints.export import (
        export_to_transformers as export_to_transformers,
    )
    from auricle.corpora import extract as extract
    from auricle.errors import AudioError as AudioError
    from auricle.errors import AuricleError as AuricleError
    from auricle.errors import CheckpointError as CheckpointError
    from auricle.errors import ChecksumError as ChecksumError
    from auricle.errors import DownloadError as DownloadError
    from auricle.errors import ExtractionError as ExtractionError
    from auricle.errors import LayerError as LayerError
    from auricle.errors import MissingExtraError as MissingExtraError
    from auricle.errors import OutputError as OutputError
    from auricle.errors import PlugInError as PlugInError
    from auricle.errors import RecipeError as RecipeError
    from auricle.errors import StoreError as StoreError
    from auricle.errors import TrainingError as TrainingError
    from auricle.errors import UnknownModelError as UnknownModelError
    from auricle.errors import UnknownUtteranceError as UnknownUtteranceError
    from auricle.extraction.store.reader import open as open  # noqa: A004 - the library's public name
    from auricle.extraction.store.reader import open_store as open_store
    from auricle.hub.building import build as build
    from auricle.hub.loading import load as load
    from auricle.models.base import Encoder as Encoder
    from auricle.models.windows import encode_windows as encode_windows
    from auricle.pictures import compare as compare
    from auricle.pictures import plot as plot
    from auricle.streaming.session import StreamSession as StreamSession
    from auricle.streaming.session import StreamStatistics as StreamStatistics

__version__ = "0.1.0"

_ERRORS = (
    "AudioError",
    "AuricleError",
    "CheckpointError",
    "ChecksumError",
    "DownloadError",
    "ExtractionError",
    "LayerError",
    "MissingExtraError",
    "OutputError",
    "PlugInError",
    "RecipeError",
    "StoreError",
    "TrainingError",
    "UnknownModelError",
    "UnknownUtteranceError",
)

_EXPORTS = {
    **dict.fromkeys(_ERRORS, "auricle.errors"),
    "Encoder": "auricle.models.base",
    "StreamSession": "auricle.streaming.session",
    "StreamStatistics": "auricle.streaming.session",
    "build": "auricle.hub.building",
    "compare": "auricle.pictures",
    "encode_windows": "auricle.models.windows",
    "export_to_transformers": "auricle.checkpoints.export",
    "extract": "auricle.corpora",
    "list_models": "auricle.catalogue.search",
    "list_sizes": "auricle.catalogue.search",
    "load": "auricle.hub.loading",
    "open": "auricle.extraction.store.reader",
    "open_store": "auricle.extraction.store.reader",
    "plot": "auricle.pictures",
}
"""Public name -> the module it is imported from on first use, so that importing is quick."""

__all__ = [
    "AudioError",
    "AuricleError",
    "CheckpointError",
    "ChecksumError",
    "DownloadError",
    "Encoder",
    "ExtractionError",
    "LayerError",
    "MissingExtraError",
    "OutputError",
    "PlugInError",
    "RecipeError",
    "StoreError",
    "StreamSession",
    "StreamStatistics",
    "TrainingError",
    "UnknownModelError",
    "UnknownUtteranceError",
    "__version__",
    "build",
    "compare",
    "encode_windows",
    "export_to_transformers",
    "extract",
    "list_models",
    "list_sizes",
    "load",
    "open_store",
    "plot",
]
"""What `from auricle import *` brings: all but `open`, which would hide Python's own."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'auricle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_EXPORTS})
