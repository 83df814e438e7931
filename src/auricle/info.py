"""Facts about an encoder: layers, receptive field, paper, origin of the weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, TypeAlias

from auricle.geometry import FrameGeometry

FinalNorm: TypeAlias = Literal["keep", "strip", "each"]
"""The layers that the final norm of an encoder is applied to: the last, as its authors do; none,
which leaves the last one raw; each of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One layer of an encoder.

    Attributes:
        name: Name by which calls ask for the layer.
        dim: D, features of a frame.
        geometry: Frames of the layer as arithmetic over samples.
        num_codebooks: K, codes of a frame that the quantiser reads from this layer; 0 for layers
            that are not quantised.
    """

    name: str
    dim: int
    geometry: FrameGeometry
    num_codebooks: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """The publication that a model comes from."""

    title: str
    arxiv: str
    date: str

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Samples that one frame of the default layer is computed from.

    `samples` is the span of the analysis window or the feature extractor, with the convolutions
    after it that look both ways unless attention follows, and `centre_samples` the middle of the
    first frame's span, counted from the first sample.
    Beyond that span a frame may depend on the past (`sees_past`: recurrence, causal convolutions),
    on the whole utterance (`looks_ahead`: attention), or on statistics of the whole utterance
    (`uses_utterance_statistics`: mean and variance normalisation, level, group norm over time).
    """

    samples: int
    centre_samples: float
    sees_past: bool
    looks_ahead: bool
    uses_utterance_statistics: bool


RANDOM_WEIGHTS = "none stated: built with random weights"
"""The training data of an encoder that was built, until whoever trains it states another."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of the weights of an encoder; fields are None where that is not known.

    `changed_config` is JSON: fields of the configuration, with their values, that whoever loaded
    the weights has changed; None for the configuration that belongs to them.
    """

    name: str | None = None
    training_data: str | None = None
    licence: str | None = None
    source_url: str | None = None
    sha256: str | None = None
    changed_config: str | None = None

    @property
    def changes(self) -> dict[str, Any] | None:
        """`changed_config`, decoded."""
        return None if self.changed_config is None else json.loads(self.changed_config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Identity, rates, layers, size and origin of an encoder, as `Encoder.info` gives them.

    `title` and `paper` are those of the weights' own record in the catalogue: a variant of a family
    may have its own. `changed_config` has the fields of the configuration that `load` was asked
    to change.
    """

    name: str
    family: str
    title: str
    sample_rate: int
    hop_samples: int
    receptive_field: ReceptiveField
    min_samples: int
    layers: tuple[str, ...]
    default_layer: str
    dims: dict[str, int]
    num_parameters: int
    paper: Paper | None
    training_data: str | None
    licence: str | None
    source_url: str | None
    sha256: str | None
    changed_config: dict[str, Any] | None
