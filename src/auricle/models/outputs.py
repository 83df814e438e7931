"""Outputs of an encoder: the layers that are chosen, padded batches of them, and pooling.

Layers are chosen by index, by name, as taps, with or without the final norm, or as units of one.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.audio.inputs import Waveform, as_waveforms
from auricle.errors import AudioError, AuricleError, LayerError
from auricle.info import SAMPLE_RATE, FinalNorm, LayerInfo
from auricle.nn.batch import length_groups
from auricle.nn.cpu.policy import takes_one_by_one

if TYPE_CHECKING:
    from auricle.models.base import Encoder


TAPS_FAMILIES = "wav2vec2, hubert, wavlm, unispeech_sat, omniasr, data2vec and data2vec2"
"""Families whose layers have taps, for messages."""


class FrameUnits(Protocol):
    """Discrete units of an encoder's frames, as `auricle.load_units` gives them."""

    def encode(
        self, encoder: Any, wavs: Sequence[Any], *, pad_short: bool, check_weights: bool
    ) -> list[Tensor]:
        """Units of waveforms by an encoder, which is checked to be theirs."""


class LayerChoice(nn.Module, abc.ABC):
    """Base of `EncoderDefinition`: the layers of an encoder and what is inside of them."""

    family: str

    @property
    @abc.abstractmethod
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        """The layers in order of depth, by arithmetic from the config alone."""

    @property
    def default_layer(self) -> str:
        """Name of the layer that a plain call returns."""
        return self.layer_infos[-1].name

    @property
    def dim(self) -> int:
        """D, features of a frame of the default layer."""
        return self.layer_info(None).dim

    @property
    def sample_rate(self) -> int:
        """Rate of waveforms in Hz."""
        return SAMPLE_RATE

    @property
    def hop_seconds(self) -> float:
        """Time from one frame of the default layer to the next."""
        return self.layer_info(None).geometry.hop_samples / SAMPLE_RATE

    @property
    def taps(self) -> tuple[LayerInfo, ...]:
        """Values within layers, in order of depth, that are given by name alone.

        They are no layers: no index counts them, and `"all"` leaves them out.
        """
        return ()

    @property
    def has_final_norm(self) -> bool:
        """True where a norm after the last layer is applied to its output and to no other's.

        Where it is, `encode_normed` gives layers with that norm left out or on all of them.
        """
        return False

    @property
    @abc.abstractmethod
    def _name(self) -> str:
        """Name of the model, for messages."""

    def layer_info(self, layer: int | str | None) -> LayerInfo:
        """The layer of an index (negative counts from the end), a name, or None for the default.

        Raises:
            LayerError: The encoder has no such layer or tap; the message lists those it has.
        """
        layers = self.layer_infos
        if layer is None:
            layer = self.default_layer
        if isinstance(layer, str):
            for info in (*layers, *self.taps):
                if info.name == layer:
                    return info
        elif (
            isinstance(layer, Integral)  # NumPy's too
            and not isinstance(layer, bool)
            and -len(layers) <= layer < len(layers)
        ):
            return layers[int(layer)]
        names = ", ".join(info.name for info in layers)
        raise LayerError(
            f"{self._name} has no layer {layer!r}: expected an index from {-len(layers)} to "
            f"{len(layers) - 1} or one of {names}{self._taps_hint(layer)}"
        )

    def layer_names(self, names: Sequence[int | str] | Literal["all"]) -> list[str]:
        """Names of layers, each once, for a list of names or indices, or `"all"`.

        Raises:
            LayerError: The encoder has no such layer, or `names` is no list.
        """
        if isinstance(names, str) and names == "all":
            return [info.name for info in self.layer_infos]
        if names is None or isinstance(names, str | int):
            raise LayerError(
                f"names must be 'all' or a list of layers, but is {names!r}; pass a list, or call "
                f"encoder(wavs, layer={names!r}) for one layer"
            )
        if isinstance(names, (set, frozenset)) or not isinstance(names, Iterable):
            raise LayerError(
                f"names must be 'all' or a list of layers in order, but is {names!r}; pass a list "
                "of names or indices"
            )
        chosen = list(names)
        if None in chosen:
            raise LayerError("names must be names or indices of layers, but one of them is None")
        return list(dict.fromkeys(self.layer_info(one).name for one in chosen))

    def check_final_norm(self, final_norm: FinalNorm) -> None:
        """Raise AuricleError unless the encoder's layers can be given with the norm like that."""
        if final_norm not in get_args(FinalNorm):
            raise AuricleError(
                f"final_norm must be one of {', '.join(get_args(FinalNorm))}, but is {final_norm!r}"
            )
        if final_norm != "keep" and not self.has_final_norm:
            raise AuricleError(
                f"{self._name} ({self.family}) has no final norm, one after its last layer alone, "
                f"so final_norm={final_norm!r} means nothing for it: leave it out"
            )

    def units(
        self,
        wavs: Sequence[Any],
        units: FrameUnits,
        *,
        pad_short: bool = False,
        check_weights: bool = True,
    ) -> list[Tensor]:
        """Discrete units of each waveform: (T,), int32, or (T, R) for a residual stack.

        Args:
            wavs: As in a call of the encoder.
            units: From `auricle.load_units`, which know their layer.
            pad_short: As in a call of the encoder.
            check_weights: Refuse units that were fitted with other weights.

        Raises:
            AuricleError: The units are of another family, width or, if checked, other weights.
            AudioError: As in a call of the encoder.
        """
        return units.encode(self, wavs, pad_short=pad_short, check_weights=check_weights)

    def _taps_hint(self, layer: object) -> str:
        """An addition to a message that there is no such layer."""
        taps = [info.name for info in self.taps]
        if taps:
            return f"; within layers, by name, {taps[0]} to {taps[-1]}"
        if isinstance(layer, str) and "." in layer:
            return f"; it has no taps within layers, which encoders of {TAPS_FAMILIES} have"
        return ""


def stacked(outputs: list[dict[str, Tensor]], infos: Sequence[LayerInfo]) -> list[Any]:
    """All layers as tensors (layers, frames, dim) where frames and widths agree, else as dicts.

    The deprecated form of `layer="all"`.
    """
    if len({(info.dim, info.geometry.frame_rule) for info in infos}) > 1:
        return outputs
    return [torch.stack(list(output.values())) for output in outputs]


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
        AudioError: There are none; a waveform is invalid, or the keys of an example are. The
            message names the index.
    """
    examples = [item for item in items if isinstance(item, Mapping)]
    if not examples:
        return _padded(items)
    for index, item in enumerate(items):
        shown = [*item] if isinstance(item, Mapping) else type(item).__name__
        if not isinstance(item, Mapping) or WAVEFORM not in item:
            raise AudioError(
                f"example {index} must be a mapping with the key {WAVEFORM!r}, but is {shown}; "
                "name its audio so, or collate waveforms alone"
            )
        if item.keys() != examples[0].keys() or {*item} & {"waveforms", "lengths"}:
            raise AudioError(
                f"example {index} has the keys {shown}, but all must have those of the first, and "
                "none 'waveforms' or 'lengths', which are the batch's: change the data set"
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


def fitted(frames: Tensor, size: int) -> Tensor:
    """The first `size` frames (T, D), the last one repeated where there are fewer."""
    missing = size - len(frames)
    return torch.cat([frames, frames[-1:].expand(missing, -1)]) if missing > 0 else frames[:size]


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

        Raises:
            LayerError: They are something else, or lack a layer.
        """
        for states in outputs:
            if not isinstance(states, Mapping) or not {*self.layers} <= {*states}:
                got = ", ".join(states) if isinstance(states, Mapping) else type(states).__name__
                wanted = f"dicts of {', '.join(self.layers)}, as encoder.layers(wavs, layers) gives"
                raise LayerError(f"outputs must be {wanted}, but one is of {got}")
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
