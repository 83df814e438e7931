"""Units: the index of the centroid that is nearest to each frame of a layer."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from auricle.audio.inputs import Waveform
from auricle.errors import AuricleError, CheckpointError, OutputError
from auricle.files.atomic import write_whole
from auricle.files.safetensors import write_safetensors
from auricle.inference.approximate import Precision, encoder_sha256, precision_of
from auricle.info import FinalNorm
from auricle.units import centroids
from auricle.units.centroids import PackedStage, chunks, row_sums

if TYPE_CHECKING:
    from auricle.models.base import Encoder

Normalization: TypeAlias = Literal["none", "l2", "standard"]
"""Change of a frame before the nearest centroid is searched: none, division by its Euclidean norm,
or subtraction of a mean and division by a scale, both per feature."""

FORMAT_KEY = "auricle_units"
FORMAT_VERSION = "1"

MIN_NORM = 1e-12
"""Smallest norm that a frame is divided by."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Centroids over a layer of an encoder, and all that has to be known to use them.

    Attributes:
        centroids: (R, V, D), float32, finite: R stages of V entries. R is 1 but for residual
            stacks, where each stage encodes what the stages before it leave of a frame.
        layer: Name of the layer, or of a tap such as `"layer_9.pre_residual"`.
        model: Model that `auricle.load` takes; None where units belong to an encoder in memory.
        checkpoint: Checkpoint of the model, where it is not the published one.
        family: Family of the encoder; None where it is not known.
        weights_digest: Digest of family, configuration and weights of the encoder, in hex; None
            where it is not known.
        checkpoint_digest: Digest of the file that the weights come from, in hex, where known.
        final_norm: As in a call of the encoder.
        normalization: Change of the frames before the search.
        mean: (D,), of `"standard"` normalisation.
        scale: (D,), of `"standard"` normalisation, positive.
        data: Data that they were fitted on, in words.
        seed: Seed of the fit.
        num_frames: Frames that they were fitted on.
        inertia: Mean squared distance of the frames of each step to their nearest centroids.
        version: Version of the library that made them.
        source: Origin: a fit, or the file that they were read from.
    """

    centroids: Tensor
    layer: str
    model: str | None = None
    checkpoint: str | None = None
    family: str | None = None
    weights_digest: str | None = None
    checkpoint_digest: str | None = None
    final_norm: FinalNorm = "keep"
    normalization: Normalization = "none"
    mean: Tensor | None = None
    scale: Tensor | None = None
    data: str | None = None
    seed: int | None = None
    num_frames: int | None = None
    inertia: tuple[float, ...] = ()
    version: str | None = None
    source: str | None = None
    _packed: dict[torch.device, list[PackedStage]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        x = self.centroids
        if x.dim() != 3 or 0 in x.shape or x.dtype != torch.float32 or not x.isfinite().all():
            raise AuricleError(
                "centroids must be finite, float32 and (stages, entries, dim), but are "
                f"{x.dtype} of shape {tuple(x.shape)}"
            )
        if self.normalization not in get_args(Normalization):
            raise AuricleError(
                f"normalization must be one of {', '.join(get_args(Normalization))}, but is "
                f"{self.normalization!r}"
            )
        is_standard = self.normalization == "standard"
        for name, value in (("mean", self.mean), ("scale", self.scale)):
            is_right = value is not None and value.shape == (self.dim,) and value.isfinite().all()
            if not is_right if is_standard else value is not None:
                raise AuricleError(
                    f"{name} must be ({self.dim},) and finite with normalization='standard' and "
                    "None without"
                )

    @property
    def num_stages(self) -> int:
        """R, units of each frame; 1 but for residual stacks."""
        return self.centroids.shape[0]

    @property
    def num_clusters(self) -> int:
        """V, entries of each stage."""
        return self.centroids.shape[1]

    @property
    def dim(self) -> int:
        """D, features of a frame."""
        return self.centroids.shape[2]

    def assign(self, features: Tensor) -> Tensor:
        """Units of frames: of each the index of the nearest centroid, the lowest of equally near.

        Args:
            features: (T, D), floating point.

        Returns:
            (T,), int32, or (T, R) for a residual stack, on the device of the features.

        Raises:
            AuricleError: Features have another shape, or hold NaN or infinity.
        """
        if features.dim() != 2 or features.shape[1] != self.dim:
            raise AuricleError(
                f"units of {self.layer} are of frames (frames, {self.dim}), but got "
                f"{tuple(features.shape)}"
            )
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            slices = chunks(len(features), centroids.CHUNK_FRAMES)
            none = torch.empty(0, self.num_stages, dtype=torch.int32, device=features.device)
            codes = torch.cat([none, *(self._assign_chunk(features[some]) for some in slices)])
        return codes if self.num_stages > 1 else codes[:, 0]

    def _assign_chunk(self, features: Tensor) -> Tensor:
        """Units (T, R), int32, of a bounded number of frames."""
        device = features.device
        if device not in self._packed:
            self._packed[device] = [PackedStage.of(stage.to(device)) for stage in self.centroids]
        x = self.normalized(features)
        codes = torch.empty(len(x), self.num_stages, dtype=torch.int32, device=device)
        for stage, packed in enumerate(self._packed[device]):
            chosen = packed.nearest(x)
            codes[:, stage] = chosen
            if stage + 1 < self.num_stages:
                x = x - packed.centroids[chosen]
        return codes

    def normalized(self, features: Tensor) -> Tensor:
        """Frames (T, D) in float32 after normalisation, each by itself."""
        x = features.float()
        if self.normalization == "l2":
            norms = row_sums(x.double().square()).sqrt().clamp_min(MIN_NORM)
            return (x.double() / norms.unsqueeze(1)).float()
        if self.mean is not None and self.scale is not None:
            return (x - self.mean.to(x.device)) / self.scale.to(x.device)
        return x

    def encode(
        self,
        encoder: Encoder,
        wavs: Sequence[Waveform],
        *,
        pad_short: bool = False,
        check_weights: bool = True,
    ) -> list[Tensor]:
        """Units of waveforms, as `Encoder.units` gives them."""
        self.check_encoder(encoder, check_weights=check_weights)
        with torch.no_grad():
            outputs = encoder(wavs, self.layer, pad_short=pad_short, final_norm=self.final_norm)
        return [self.assign(output) for output in outputs]

    def check_encoder(self, encoder: Encoder, *, check_weights: bool = True) -> None:
        """Check that these are units of an encoder.

        In lower precision weights are others than those that units were fitted with: there the
        digest of the checkpoint's file counts.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: The encoder is of another family, the layer of another width, or, unless
                `check_weights` is False, the weights are others.
        """
        if self.family not in (None, encoder.family):
            raise AuricleError(
                f"these units are of {self._model} ({self.family}), but the encoder is of family "
                f"{encoder.family}: load {self._model}, or units of {encoder.family}"
            )
        found = encoder.layer_info(self.layer).dim
        if found != self.dim:
            raise AuricleError(
                f"these units are of frames of {self.dim} features, but {self.layer} of "
                f"{encoder.info.name} has {found}: load {self._model}"
            )
        encoder.check_final_norm(self.final_norm)
        if not check_weights or self.weights_digest is None:
            return
        if precision_of(encoder) != "float32" and self.checkpoint_digest is not None:
            kind, expected = "checkpoint", self.checkpoint_digest
            digest = encoder.provenance.sha256
        else:
            kind, expected, digest = "weights", self.weights_digest, known_sha256(encoder)
        if digest != expected:
            raise AuricleError(
                f"these units were fitted with other weights: their {kind} digest is {expected}, "
                f"that of this encoder {digest}; load {self._model} with the weights they came "
                "from, or pass check_weights=False (on the command line --other-weights) to use "
                "them regardless"
            )

    def load_encoder(
        self,
        *,
        device: str | torch.device = "auto",
        precision: Precision = "float32",
        check_weights: bool = True,
    ) -> Encoder:
        """Load the encoder that the units name.

        Raises:
            AuricleError: They name no model, or what is loaded is another encoder; and errors of
                `auricle.load`.
        """
        from auricle.hub.load import load

        if self.model is None:
            raise AuricleError(
                "these units name no model that could be loaded: load the encoder that they were "
                "fitted with and call encoder.units(wavs, units)"
            )
        encoder = load(self.model, checkpoint=self.checkpoint, device=device, precision=precision)
        self.check_encoder(encoder, check_weights=check_weights)
        return encoder

    def save(self, path: str | Path) -> None:
        """Write a `.safetensors` file that `auricle.load_units` reads.

        Raises:
            OutputError: The name does not end in `.safetensors`, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise OutputError(f"cannot save to {path}: expected a name that ends in .safetensors")
        arrays = {name: getattr(self, name) for name in ("centroids", "mean", "scale")}
        tensors = {name: x for name, x in arrays.items() if x is not None}
        metadata = {FORMAT_KEY: FORMAT_VERSION, "units": json.dumps(self.facts())}
        write_whole(path, lambda temporary: write_safetensors(temporary, tensors, metadata))

    def facts(self) -> dict[str, object]:
        """All but the arrays, by name."""
        names = [field.name for field in dataclasses.fields(self) if field.init]
        return {name: getattr(self, name) for name in names if name not in _ARRAYS}

    @property
    def _model(self) -> str:
        return self.model or self.family or "their encoder"


_ARRAYS = ("centroids", "mean", "scale")


def load_units(path: str | Path) -> Units:
    """Read units that `Units.save` or `auricle units` wrote.

    Raises:
        CheckpointError: The file is missing or damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            names = [*file.keys()]
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file: {error}; `auricle units import` reads "
            "centroids of other kinds"
        ) from error
    if metadata.get(FORMAT_KEY) != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has no units of this library: expected the metadata {FORMAT_KEY}="
            f"{FORMAT_VERSION}, got {metadata.get(FORMAT_KEY)!r}; `auricle units import` reads "
            "bare centroids, and asks for their layer"
        )
    try:
        facts = json.loads(metadata["units"])
        fields = {field.name for field in dataclasses.fields(Units) if field.init} - {*_ARRAYS}
        known = {name: value for name, value in facts.items() if name in fields}
        known["inertia"] = tuple(known.get("inertia", ()))
        return Units(**known, **{name: x for name, x in tensors.items() if name in _ARRAYS})
    except (KeyError, TypeError, ValueError, AuricleError) as error:
        raise CheckpointError(f"{path} holds damaged units: {error}; make it again") from error


def deduplicate(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of equal units: the unit of each run, (N,) or (N, R), and its frames (N,), int32."""
    values, counts = torch.unique_consecutive(codes, return_counts=True, dim=0)
    return values, counts.to(torch.int32)


def text_line(name: str, codes: Tensor, separator: str = " ") -> str:
    """A line of units without its end: `name 12 12 7`, or `name 12,3 12,9` of a residual stack.

    Raises:
        AuricleError: The name holds the separator, or an end of a line.
    """
    if separator in name or len(name.splitlines()) != 1:
        raise AuricleError(
            f"the id {name!r} cannot begin a line of units: it is empty, or holds {separator!r} or "
            "an end of a line; name the utterance otherwise, or use another separator"
        )
    rows = codes.tolist()
    words = [str(row) if isinstance(row, int) else ",".join(map(str, row)) for row in rows]
    return f"{name}{separator}{' '.join(words)}"


_digests: weakref.WeakKeyDictionary[Encoder, tuple[object, str]] = weakref.WeakKeyDictionary()


def known_sha256(encoder: Encoder) -> str:
    """`encoder_sha256`, computed again only where weights have changed since the last call."""
    state = [
        (x.data_ptr(), None if x.is_inference() else x._version)
        for x in encoder.state_dict(keep_vars=True).values()
    ]
    known = _digests.get(encoder)
    if known is None or known[0] != state:
        known = _digests[encoder] = (state, encoder_sha256(encoder))
    return known[1]
