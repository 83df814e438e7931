"""Facts about an encoder: windows and counts of frames, layers, paper, origin of the weights."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


SAMPLE_RATE = 16_000
"""Sample rate in Hz of every published encoder of these families."""


def num_resampled(num_samples: int, source_rate: float, target_rate: float) -> int:
    """Samples of a waveform after resampling, which rounds half up; rates in Hz."""
    if source_rate == target_rate:
        return num_samples
    return math.floor(num_samples * target_rate / source_rate + 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """One sliding window over a sequence: a convolution, a pooling, an analysis frame.

    A window has `size` inputs and moves by `stride` inputs; `pad_left` and `pad_right` inputs are
    added at the ends of the sequence before it slides.
    """

    size: int
    stride: int = 1
    pad_left: int = 0
    pad_right: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1 or self.pad_left < 0 or self.pad_right < 0:
            raise ValueError(f"a window needs size, stride >= 1 and paddings >= 0, got {self}")


@dataclasses.dataclass(frozen=True)
class FrameGeometry:
    """Frames as arithmetic: a chain of sliding windows from samples to frames.

    No `windows` at all means one frame per sample.
    """

    windows: tuple[Window, ...] = ()

    def then(self, *windows: Window) -> FrameGeometry:
        """The geometry of what `windows` give when they slide over these frames."""
        return FrameGeometry(self.windows + windows)

    def num_frames(self, num_samples: IntOrTensor) -> IntOrTensor:
        """Number of frames for `num_samples` samples; 0 where no window fits.

        Takes an int or an integer tensor of any shape and returns the same kind.
        """
        count = num_samples
        for window in self.windows:
            spare = count + (window.pad_left + window.pad_right - window.size)
            frames = spare // window.stride + 1
            # Padding alone makes no frames: nothing stays nothing.
            if isinstance(count, int) or not hasattr(frames, "clamp"):
                # Of an int, or of the symbol of one that an exporter follows.
                count = max(frames, 0) if count > 0 else 0  # type: ignore[assignment]
            else:
                count = frames.clamp(min=0) * (count > 0)
        return count

    @property
    def frame_rule(self) -> tuple[tuple[int, int], ...]:
        """Sizes and strides that decide the count of frames: equal rules give equal counts."""
        steps = ((w.size - w.pad_left - w.pad_right, w.stride) for w in self.windows)
        return tuple(step for step in steps if step != (1, 1))

    def min_samples(self, num_frames: int = 1) -> int:
        """The fewest samples that give `num_frames` frames."""
        count = num_frames
        for window in reversed(self.windows):
            count = (count - 1) * window.stride + window.size - window.pad_left - window.pad_right
            count = max(count, 1)
        return count

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        hop = 1
        for window in self.windows:
            hop *= window.stride
        return hop

    @property
    def window_samples(self) -> int:
        """Samples that one frame spans (its receptive field)."""
        span, hop = 1, 1
        for window in self.windows:
            span += (window.size - 1) * hop
            hop *= window.stride
        return span

    @property
    def start_samples(self) -> int:
        """First sample of the first frame's span; negative where padding comes first."""
        start, hop = 0, 1
        for window in self.windows:
            start -= window.pad_left * hop
            hop *= window.stride
        return start


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
