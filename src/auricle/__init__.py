"""auricle: one interface for self-supervised speech encoders.

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
    from auricle.checkpoints.onnx import export_to_onnx as export_to_onnx
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
    from auricle.extraction.extract import extract as extract
    from auricle.hub.load import build as build
    from auricle.hub.load import load as load
    from auricle.inference.approximate import encode_windows as encode_windows
    from auricle.inference.approximate import window_codes as window_codes
    from auricle.inference.approximate import window_layers as window_layers
    from auricle.inference.session import StreamSession as StreamSession
    from auricle.inference.session import StreamStatistics as StreamStatistics
    from auricle.models.base import Encoder as Encoder
    from auricle.models.outputs import Featurizer as Featurizer
    from auricle.models.outputs import collate as collate
    from auricle.plotting.api import compare as compare
    from auricle.plotting.api import plot as plot
    from auricle.probing.own_labels import probe_labels as probe_labels
    from auricle.store.reader import open as open  # noqa: A004 - the library's public name
    from auricle.store.reader import open_store as open_store
    from auricle.units.codebook import Units as Units
    from auricle.units.codebook import load_units as load_units
    from auricle.units.fit import fit_units as fit_units
    from auricle.units.importing import import_units as import_units

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
    "Featurizer": "auricle.models.outputs",
    "StreamSession": "auricle.inference.session",
    "StreamStatistics": "auricle.inference.session",
    "Units": "auricle.units.codebook",
    "build": "auricle.hub.load",
    "collate": "auricle.models.outputs",
    "compare": "auricle.plotting.api",
    "encode_windows": "auricle.inference.approximate",
    "export_to_onnx": "auricle.checkpoints.onnx",
    "export_to_transformers": "auricle.checkpoints.export",
    "extract": "auricle.extraction.extract",
    "fit_units": "auricle.units.fit",
    "import_units": "auricle.units.importing",
    "list_models": "auricle.catalogue.search",
    "list_sizes": "auricle.catalogue.search",
    "load": "auricle.hub.load",
    "load_units": "auricle.units.codebook",
    "open": "auricle.store.reader",
    "open_store": "auricle.store.reader",
    "plot": "auricle.plotting.api",
    "probe_labels": "auricle.probing.own_labels",
    "window_codes": "auricle.inference.approximate",
    "window_layers": "auricle.inference.approximate",
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
    "Featurizer",
    "LayerError",
    "MissingExtraError",
    "OutputError",
    "PlugInError",
    "RecipeError",
    "StoreError",
    "StreamSession",
    "StreamStatistics",
    "TrainingError",
    "Units",
    "UnknownModelError",
    "UnknownUtteranceError",
    "__version__",
    "build",
    "collate",
    "compare",
    "encode_windows",
    "export_to_onnx",
    "export_to_transformers",
    "extract",
    "fit_units",
    "import_units",
    "list_models",
    "list_sizes",
    "load",
    "load_units",
    "open_store",
    "plot",
    "probe_labels",
    "window_codes",
    "window_layers",
]
"""Names that `from auricle import *` imports: all but `open`, which would shadow the builtin."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'auricle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_EXPORTS})
