"""Selection of an encoder's output: layers or codes, summed, pooled, in a type; its record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from auricle.errors import AuricleError
from auricle.geometry import SAMPLE_RATE
from auricle.inference.precision import encoder_sha256, precision_of
from auricle.inference.windows import window_codes, window_layers
from auricle.info import FinalNorm, LayerInfo
from auricle.models.base import Encoder
from auricle.store.layout import LayerMeta, SelectionMeta, StoreMeta

Pool: TypeAlias = Literal["mean", "max", "meanstd"]
DType: TypeAlias = Literal["float32", "float16", "bfloat16"]

CODES = "codes"
"""Name under which codes are kept."""

WEIGHTED_SUM = "weighted_sum"
"""Name under which a weighted sum of layers is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows that long audio is encoded in, as `encode_windows` takes them, in seconds."""

    window_seconds: float
    overlap_seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptArray:
    """One of the arrays that are kept of an utterance."""

    name: str
    dim: int
    hop_samples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Arrays that are kept of an encoder's output.

    Attributes:
        layers: Names of layers, at least one unless `wants_codes`.
        weights: Of a sum of the layers, one each; None to keep them as they are.
        pool: Over time: mean, maximum, or mean and standard deviation (of all frames, not of a
            sample of them) beside each other; None to keep all frames.
        wants_codes: Keep the quantiser's codes instead of layers.
        dtype: Type in which layers are kept; codes are int64.
        windows: What is longer is encoded in windows with overlap, their lengths in seconds; None
            to encode everything whole.
        final_norm: As in a call of the encoder.
    """

    layers: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    pool: Pool | None = None
    wants_codes: bool = False
    dtype: DType = "float32"
    windows: Windows | None = None
    final_norm: FinalNorm = "keep"

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
            info = encoder.layer_info(encoder.codes_layer)
            hop_samples = info.geometry.hop_samples
            return (KeptArray(name=CODES, dim=encoder.num_codebooks, hop_samples=hop_samples),)
        infos = [encoder.layer_info(name) for name in self.layers]
        if self.weights is not None:
            infos = infos[:1]
        factor = 2 if self.pool == "meanstd" else 1
        return tuple(
            KeptArray(
                name=WEIGHTED_SUM if self.weights is not None else info.name,
                dim=factor * info.dim,
                hop_samples=info.geometry.hop_samples,
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
    def item_bytes(self) -> int:
        """Bytes of one value of what is kept."""
        return 8 if self.wants_codes else torch.empty(0, dtype=getattr(torch, self.dtype)).itemsize

    def num_rows(self, encoder: Encoder, seconds: float) -> list[int]:
        """Rows of each array that is kept of so many seconds: frames, or one after pooling."""
        num_samples = max(round(seconds * SAMPLE_RATE), encoder.min_samples)
        names = (encoder.codes_layer,) if self.wants_codes else self.layers
        names = names if self.weights is None else names[:1]
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
            return [self._keep(output) for output in outputs]

    def _checked(self, encoder: Encoder) -> Selection:
        if self.windows is not None:
            self.run(encoder, [])  # raises where windows are too short
        return self

    def _keep(self, layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = dict(layers)
        if self.weights is not None:
            pairs = zip(self.weights, arrays.values(), strict=True)
            total = sum((weight * array for weight, array in pairs), torch.zeros(()))
            arrays = {WEIGHTED_SUM: total}
        return {name: self._narrow(name, _pool(array, self.pool)) for name, array in arrays.items()}

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


def _pool(x: Tensor, pool: Pool | None) -> Tensor:
    """(1, D) for (T, D), or all frames; mean and standard deviation give (1, 2 D)."""
    if pool == "mean":
        return x.mean(dim=0, keepdim=True)
    if pool == "max":
        return x.amax(dim=0, keepdim=True)
    if pool == "meanstd":
        spread, mean = torch.std_mean(x, dim=0, correction=0, keepdim=True)
        return torch.cat([mean, spread], dim=1)
    return x


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


def describe(
    encoder: Encoder,
    selection: Selection,
    *,
    model: str,
    store_format: str,
    channel: int | None,
    short: str,
    library_version: str,
) -> StoreMeta:
    """The meta.json of what `selection` keeps of an encoder.

    Args:
        encoder: What encodes.
        selection: What is kept.
        model: What the user calls the encoder.
        store_format: One of `formats.registry.FORMAT_NAMES`.
        channel: Which channel is taken where the inputs name none; None for the mean.
        short: What happens to audio shorter than the encoder's minimum.
        library_version: Version of this library.
    """
    info = encoder.info
    windows = selection.windows
    layers = tuple(
        LayerMeta(
            name=one.name,
            dim=one.dim,
            hop_samples=None if selection.pool else one.hop_samples,
        )
        for one in selection.kept(encoder)
    )
    return StoreMeta(
        format=store_format,
        model=model,
        family=encoder.family,
        layers=layers,
        sample_rate=SAMPLE_RATE,
        dtype="int64" if selection.wants_codes else selection.dtype,
        selection=SelectionMeta(
            layers=selection.layers,
            weights=selection.weights,
            pool=selection.pool,
            codes=selection.wants_codes,
            window_seconds=windows.window_seconds if windows else None,
            overlap_seconds=windows.overlap_seconds if windows else None,
            final_norm=selection.final_norm,
        ),
        channel=channel,
        short=short,
        encoder_dtype=precision_of(encoder),
        model_sha256=encoder_sha256(encoder),
        checkpoint_sha256=info.sha256,
        source_url=info.source_url,
        licence=info.licence,
        library_version=library_version,
    )
