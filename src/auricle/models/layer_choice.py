"""Choice of an encoder's layers: by index, by name, taps, the final norm, and units of a layer."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from auricle.errors import AuricleError, LayerError
from auricle.geometry import SAMPLE_RATE
from auricle.info import FinalNorm, LayerInfo

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
