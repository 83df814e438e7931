"""Padded batches of waveforms, and modules and pooling on the layers of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.audio.inputs import Waveform, as_waveforms
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.geometry import SAMPLE_RATE
from auricle.info import FinalNorm
from auricle.nn.batch import length_groups
from auricle.nn.cpu.policy import takes_one_by_one

if TYPE_CHECKING:
    from auricle.models.base import Encoder

Pool: TypeAlias = Literal["mean", "max", "meanstd"]
"""Pooling over frames; `meanstd` is the mean and the standard deviation, side by side."""

MAX_TOGETHER = 32
"""Utterances that the CPU encodes at once, where that is faster: more of them gain nothing."""

MAX_PADDED_SECONDS = 320.0
"""Audio of a padded batch, padding included: longer lists are encoded in several batches."""

WAVEFORM = "waveform"
"""Key of the waveform in an example of a data set."""


@overload
def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]: ...
@overload
def collate(items: Sequence[Waveform]) -> tuple[Tensor, Tensor]: ...
def collate(
    items: Sequence[Mapping[str, Any]] | Sequence[Waveform],
) -> dict[str, Any] | tuple[Tensor, Tensor]:
    """Pad waveforms into one tensor; the `collate_fn` of a `DataLoader`.

    Args:
        items: Waveforms, as a call of an encoder takes them: 1-D tensors or arrays at 16 kHz,
            paths, `(samples, sample_rate)` pairs. Or examples: mappings with such a waveform as
            `"waveform"`, whose other values are numbers, strings or tensors of one shape.

    Returns:
        Waveforms (B, S), float32, zeros after their ends, and lengths in samples (B,), int64, which
        `Encoder.forward_padded` takes. For examples a dict with these as `"waveforms"` and
        `"lengths"`, and the other values by their keys, as `torch.utils.data.default_collate`
        joins them.

    Raises:
        AudioError: There are none; a waveform is invalid, or an example has none. The message
            names the index.
    """
    examples = [item for item in items if isinstance(item, Mapping)]
    if not examples:
        return _padded(items)
    for index, item in enumerate(items):
        if not isinstance(item, Mapping) or WAVEFORM not in item:
            shown = [*item] if isinstance(item, Mapping) else type(item).__name__
            raise AudioError(
                f"example {index} must be a mapping with the key {WAVEFORM!r}, but is {shown}; "
                "name its audio so, or collate waveforms alone"
            )
    waveforms, lengths = _padded([example[WAVEFORM] for example in examples])
    others = [{k: x for k, x in example.items() if k != WAVEFORM} for example in examples]
    joined = torch.utils.data.default_collate(others) if others[0] else {}
    return {"waveforms": waveforms, "lengths": lengths, **joined}


def _padded(wavs: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Waveforms (B, S), zeros after their ends, and their lengths (B,)."""
    rows = as_waveforms(wavs, sample_rate=SAMPLE_RATE, min_samples=1)
    if not rows:
        raise AudioError("there are no waveforms to pad: pass one or more")
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def batches_of(encoder: Encoder, waveforms: Sequence[Tensor]) -> list[list[int]]:
    """Indices of the waveforms (S,) of each batch that an encoder computes.

    A batch in training is one batch. On the CPU padding costs more than several at once save,
    except for recurrence, which takes the longest first, so that the ends follow each other.
    """
    everything = list(range(len(waveforms)))
    if encoder.training:
        return [everything]
    if not takes_one_by_one(waveforms[0], (), *encoder.children()):
        budget = int(MAX_PADDED_SECONDS * SAMPLE_RATE)
        return length_groups([encoder.fixed_samples or len(one) for one in waveforms], budget)
    if not encoder.is_faster_together:
        return [[index] for index in everything]
    order = sorted(everything, key=lambda index: -len(waveforms[index]))
    return [order[start : start + MAX_TOGETHER] for start in range(0, len(order), MAX_TOGETHER)]


def pool_frames(x: Tensor, pool: Pool) -> Tensor:
    """One vector (1, D) of frames (T, D); of `"meanstd"` (1, 2 D).

    Raises:
        AuricleError: There is no such pooling.
    """
    if pool == "mean":
        return x.mean(dim=0, keepdim=True)
    if pool == "max":
        return x.amax(dim=0, keepdim=True)
    if pool == "meanstd":
        spread, mean = torch.std_mean(x, dim=0, correction=0, keepdim=True)
        return torch.cat([mean, spread], dim=1)
    raise AuricleError(f"pool must be one of {', '.join(get_args(Pool))}, but is {pool!r}")


def weighted_sum(states: Sequence[Tensor], weights: Tensor, *, normalize: bool = False) -> Tensor:
    """Sum of L states (..., D) by the softmax of L weights, as in SUPERB (arXiv:2105.01051).

    Args:
        states: Of one shape (..., D).
        weights: (L,), before the softmax.
        normalize: Whether each frame of each state has zero mean and unit variance first.
    """
    stack = torch.stack(list(states))
    if normalize:
        stack = F.layer_norm(stack, stack.shape[-1:])
    summed: Tensor = torch.tensordot(weights.softmax(dim=0), stack, dims=1)
    return summed


class Featurizer(nn.Module):
    """A learnt weighted sum of an encoder's layers, as in SUPERB (arXiv:2105.01051, section 2.2).

    The encoder is not part of it: parameters and `state_dict` have the weights alone.

    Attributes:
        layers: Names of the layers, in order: `encoder.layers(wavs, featurizer.layers)`.
        dim: D, features of a frame.
        weights: (L,), before the softmax; zeros at first, so that the sum is a mean.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[int | str] | Literal["all"] = "all",
        *,
        normalize: bool = False,
    ) -> None:
        """Begin with equal weights.

        Args:
            encoder: The encoder whose layers are summed.
            layers: List of names or indices, or `"all"`.
            normalize: Whether each frame of each layer has zero mean and unit variance before the
                sum, as layers may differ in scale; SUPERB does not.

        Raises:
            LayerError: The encoder has no such layer, `layers` is empty, or they differ in width
                or rate.
        """
        super().__init__()
        infos = [encoder.layer_info(name) for name in encoder.layer_names(layers)]
        if len({(info.dim, info.geometry.frame_rule) for info in infos}) != 1:
            names = ", ".join(f"{info.name} ({info.dim})" for info in infos) or "none"
            raise LayerError(
                f"layers of a weighted sum must be of one width and rate, but are {names}; pass "
                "layers= with those that agree"
            )
        self.layers = [info.name for info in infos]
        self.dim = infos[0].dim
        self.normalize = normalize
        self.weights = nn.Parameter(torch.zeros(len(infos)))

    def forward(self, outputs: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        """Sum the layers of each utterance.

        Args:
            outputs: What `encoder.layers(wavs, featurizer.layers)` gives: per utterance a mapping
                of name to (frames, dim); further layers are ignored.

        Returns:
            One tensor (frames, dim) per utterance.
        """
        return [
            weighted_sum(
                [states[name] for name in self.layers], self.weights, normalize=self.normalize
            )
            for states in outputs
        ]

    def extra_repr(self) -> str:
        return f"{', '.join(self.layers)}, dim={self.dim}, normalize={self.normalize}"


class PaddedEncoder(nn.Module):
    """`Encoder.forward_padded` of one layer as the `forward` of a module."""

    def __init__(self, encoder: Encoder, layer: str, final_norm: FinalNorm = "keep") -> None:
        super().__init__()
        self.encoder = encoder
        self.layer = layer
        self.final_norm: FinalNorm = final_norm

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) and their counts (B,) of padded waveforms (B, S) and lengths (B,)."""
        return self.encoder.forward_padded(
            waveforms, lengths, layer=self.layer, final_norm=self.final_norm
        )
