"""Selection of an encoder's output: layers, codes or units, pooled, in a type; its record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from auricle.errors import AuricleError
from auricle.inference.approximate import window_codes, window_layers
from auricle.info import SAMPLE_RATE, FinalNorm, FrameGeometry, LayerInfo
from auricle.models.base import Encoder
from auricle.models.outputs import Pool, pool_frames
from auricle.store.index import ITEM_BYTES
from auricle.units.codebook import Units, deduplicate

DType: TypeAlias = Literal["float32", "float16", "bfloat16"]

CODES = "codes"
"""Name under which codes are kept."""

UNITS, DURATIONS = "units", "durations"
"""Names under which units are kept, and the frames of each run of equal ones."""

WEIGHTED_SUM = "weighted_sum"
"""Name under which a weighted sum of layers is kept."""

MAX_INT16 = 2**15 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows that long audio is encoded in, as `encode_windows` takes them, in seconds."""

    window_seconds: float
    overlap_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptArray:
    """One of the arrays that are kept of an utterance, and the frames that it is made of."""

    name: str
    dim: int
    geometry: FrameGeometry

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.geometry.hop_samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Arrays that are kept of an encoder's output.

    Attributes:
        layers: Names of layers, at least one unless `wants_codes`; of `units` their own.
        weights: Of a sum of the layers, one each; None to keep them as they are.
        pool: Over time: mean, maximum, or mean and standard deviation (of all frames, not of a
            sample of them) beside each other; None to keep all frames.
        wants_codes: Keep the quantiser's codes instead of layers.
        units: Keep the units of the frames instead of the frames.
        deduplicate: Keep runs of equal units as one row, and their durations beside them.
        dtype: Type in which layers are kept; that of codes and units is their own.
        windows: What is longer is encoded in windows with overlap, their lengths in seconds; None
            to encode everything whole.
        final_norm: As in a call of the encoder.
    """

    layers: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    pool: Pool | None = None
    wants_codes: bool = False
    units: Units | None = None
    deduplicate: bool = False
    dtype: DType = "float32"
    windows: Windows | None = None
    final_norm: FinalNorm = "keep"

    @classmethod
    def of_units(
        cls,
        encoder: Encoder,
        units: Units,
        *,
        deduplicate: bool = False,
        windows: Windows | None = None,
        check_weights: bool = True,
    ) -> Selection:
        """A selection of units, checked against an encoder.

        Args:
            encoder: Whose frames they are the units of.
            units: As in the attributes.
            deduplicate: As in the attributes.
            windows: As in the attributes.
            check_weights: Refuse units that were fitted with other weights.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: The units are of another encoder, or windows are too short.
        """
        units.check_encoder(encoder, check_weights=check_weights)
        return cls(
            layers=(units.layer,),
            units=units,
            deduplicate=deduplicate,
            windows=windows,
            final_norm=units.final_norm,
        )._checked(encoder)

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        layers: Sequence[int | str] | Literal["all"] | None = None,
        *,
        weights: Sequence[float] | None = None,
        pool: Pool | None = None,
        wants_codes: bool = False,
        dtype: DType = "float32",
        windows: Windows | None = None,
        final_norm: FinalNorm = "keep",
    ) -> Selection:
        """A selection, checked against an encoder.

        Args:
            encoder: Whose output it is.
            layers: Indices or names, "all", or None for the default layer.
            weights: As in the attributes.
            pool: As in the attributes.
            wants_codes: As in the attributes.
            dtype: As in the attributes.
            windows: As in the attributes.
            final_norm: As in the attributes.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: The encoder has no codes, weights do not match the layers, layers of
                different width or rate are to be summed, windows are too short, the encoder has
                no final norm, or options contradict each other.
        """
        encoder.check_final_norm(final_norm)
        if wants_codes:
            if layers is not None or weights is not None or pool is not None:
                raise AuricleError(
                    "codes come from the quantiser's own layer, frame by frame; leave layers=, "
                    "weights= and pool= out, or codes=True"
                )
            if final_norm != "keep":
                raise AuricleError(
                    f"codes depend on no final norm: leave final_norm={final_norm!r} out"
                )
            encoder.codes_info()  # raises for an encoder without codes
            return cls(wants_codes=True, windows=windows)._checked(encoder)
        infos = _infos(encoder, layers)
        names = tuple(info.name for info in infos)
        if len(set(names)) < len(names):
            raise AuricleError(f"a layer is named twice: {', '.join(names)}; name each once")
        if weights is not None:
            _check_weights(infos, weights)
            weights = tuple(float(weight) for weight in weights)
        return cls(
            layers=names,
            weights=weights,
            pool=pool,
            dtype=dtype,
            windows=windows,
            final_norm=final_norm,
        )._checked(encoder)

    def kept(self, encoder: Encoder) -> tuple[KeptArray, ...]:
        """The arrays that are kept of an utterance of this encoder."""
        if self.wants_codes:
            assert encoder.codes_layer is not None
            geometry = encoder.layer_info(encoder.codes_layer).geometry
            return (KeptArray(name=CODES, dim=encoder.num_codebooks, geometry=geometry),)
        infos = [encoder.layer_info(name) for name in self.layers]
        if self.units is not None:
            dims = {UNITS: self.units.num_stages, **({DURATIONS: 1} if self.deduplicate else {})}
            geometry = infos[0].geometry
            return tuple(
                KeptArray(name=name, dim=dim, geometry=geometry) for name, dim in dims.items()
            )
        if self.weights is not None:
            infos = infos[:1]
        factor = 2 if self.pool == "meanstd" else 1
        return tuple(
            KeptArray(
                name=WEIGHTED_SUM if self.weights is not None else info.name,
                dim=factor * info.dim,
                geometry=info.geometry,
            )
            for info in infos
        )

    def num_bytes(self, encoder: Encoder, kept: Sequence[KeptArray], seconds: float) -> int:
        """Bytes of what is kept of so many seconds."""
        num_samples = round(seconds * SAMPLE_RATE)
        total = 0
        for array in kept:
            rows = 1 if self.pool else math.ceil(num_samples / array.hop_samples)
            total += rows * array.dim * self.item_bytes
        return total

    @property
    def kept_dtype(self) -> str:
        """Type of what is kept: of units the smallest that holds them and their durations."""
        if self.units is not None:
            is_small = self.units.num_clusters <= MAX_INT16 + 1 and not self.deduplicate
            return "int16" if is_small else "int32"
        return "int64" if self.wants_codes else self.dtype

    @property
    def item_bytes(self) -> int:
        """Bytes of one value of what is kept."""
        return ITEM_BYTES[self.kept_dtype]

    def num_rows(self, encoder: Encoder, seconds: float) -> list[int]:
        """Rows of each array that is kept of so many seconds: frames, or one after pooling.

        Of runs of equal units it is the most that there may be.
        """
        num_samples = max(round(seconds * SAMPLE_RATE), encoder.min_samples)
        names = [encoder.codes_layer] if self.wants_codes else [*self.layers]
        names = names if self.weights is None else names[:1]
        names = names * 2 if self.deduplicate else names
        return [1 if self.pool else encoder.num_frames(num_samples, name) for name in names]

    def run(
        self, encoder: Encoder, waveforms: Sequence[Tensor], *, pad_short: bool = False
    ) -> list[dict[str, Tensor]]:
        """Encode waveforms and keep what is selected, on the CPU.

        Args:
            encoder: Encoder whose output is kept.
            waveforms: 1-D float32, in samples at 16 kHz.
            pad_short: As in a call of the encoder.

        Returns:
            For each waveform (frames, dim) by name, with pooling (1, dim).

        Raises:
            AudioError: A waveform cannot be encoded.
            AuricleError: A representation holds NaN or infinity, in the type in which it is kept.
        """
        windows = dataclasses.asdict(self.windows) if self.windows is not None else None
        options: Any = {"pad_short": pad_short, "final_norm": self.final_norm}
        with torch.inference_mode():
            if self.wants_codes:
                if windows is None:
                    codes = encoder.codes(waveforms, pad_short=pad_short)
                else:
                    codes = window_codes(encoder, waveforms, **windows, pad_short=pad_short)
                return [{CODES: row.cpu()} for row in codes]
            if windows is None:
                outputs = encoder.layers(waveforms, self.layers, **options)
            else:
                outputs = window_layers(encoder, waveforms, self.layers, **windows, **options)
            if self.units is not None:
                return self._units([output[self.units.layer] for output in outputs], self.units)
            return [self._keep(output) for output in outputs]

    def _checked(self, encoder: Encoder) -> Selection:
        if self.windows is not None:
            self.run(encoder, [])  # raises where windows are too short
        return self

    def _units(self, outputs: Sequence[Tensor], units: Units) -> list[dict[str, Tensor]]:
        """Units of each utterance's frames (T, D), those of all by one product."""
        if not outputs:
            return []
        frames = torch.cat([*outputs]) if len(outputs) > 1 else outputs[0]
        assigned = units.assign(frames).cpu().to(getattr(torch, self.kept_dtype))
        lengths = [len(output) for output in outputs]
        codes = torch.split(assigned.view(len(assigned), -1), lengths)
        if not self.deduplicate:
            return [{UNITS: one} for one in codes]
        runs = [deduplicate(one) for one in codes]
        return [{UNITS: one, DURATIONS: counts.unsqueeze(1)} for one, counts in runs]

    def _keep(self, layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = dict(layers)
        if self.weights is not None:
            pairs = zip(self.weights, arrays.values(), strict=True)
            total = sum((weight * array for weight, array in pairs), torch.zeros(()))
            arrays = {WEIGHTED_SUM: total}
        return {name: self._narrow(name, self._pooled(array)) for name, array in arrays.items()}

    def _pooled(self, array: Tensor) -> Tensor:
        return array if self.pool is None else pool_frames(array, self.pool)

    def _narrow(self, name: str, array: Tensor) -> Tensor:
        narrow = array.to("cpu", getattr(torch, self.dtype))
        if not bool(torch.isfinite(narrow).all()):
            if bool(torch.isfinite(array).all()):
                raise AuricleError(
                    f"{name} holds values up to {float(array.abs().max()):.3g}, which {self.dtype} "
                    "cannot hold; keep bfloat16 or float32"
                )
            raise AuricleError(
                f"{name} holds NaN or infinity; run the model in float32 if it is not, and check "
                "the checkpoint with `auricle check`"
            )
        return narrow


def type_name(dtype: DType | torch.dtype) -> DType:
    """The name of a type that can be kept.

    Raises:
        AuricleError: It cannot be.
    """
    for name in get_args(DType):
        if dtype in (name, getattr(torch, name)):
            kept: DType = name
            return kept
    raise AuricleError(f"dtype must be one of {', '.join(get_args(DType))}, but is {dtype}")


def _infos(
    encoder: Encoder, layers: Sequence[int | str] | Literal["all"] | None
) -> tuple[LayerInfo, ...]:
    if layers == "all":
        return encoder.layer_infos
    if layers is None:
        return (encoder.layer_info(None),)
    if not layers:
        raise AuricleError("no layer is named; name one or more, or leave layers out")
    return tuple(encoder.layer_info(layer) for layer in layers)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _check_weights(infos: Sequence[LayerInfo], weights: Sequence[float]) -> None:
    if len(weights) != len(infos):
        raise AuricleError(
            f"got {_counted(len(weights), 'weight')} for {_counted(len(infos), 'layer')} "
            f"({', '.join(info.name for info in infos)}); give one each"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise AuricleError(f"weights must be finite numbers, but are {tuple(weights)}")
    if len({(info.dim, info.geometry.frame_rule) for info in infos}) > 1:
        raise AuricleError(
            "layers of different width or rate cannot be summed: "
            + ", ".join(f"{info.name} {info.dim}" for info in infos)
        )
