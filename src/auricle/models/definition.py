"""Definition of an encoder: what a family implements, and facts that follow by arithmetic."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import msgspec
import torch
from torch import Tensor, nn

from auricle.errors import AuricleError, LayerError
from auricle.files.native import NativeCheckpoint, write_native
from auricle.frontends.fbank import FbankConfig
from auricle.frontends.log_mel import LogMelConfig
from auricle.geometry import SAMPLE_RATE
from auricle.info import LayerInfo, ModelInfo, Paper, Provenance, ReceptiveField
from auricle.nn.batch import Batch, Layout
from auricle.nn.cpu.policy import first_change

if TYPE_CHECKING:
    from auricle.geometry import IntOrTensor
    from auricle.inference.streaming.stages import Step


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the families' configurations: frozen, keyword-only, validated on construction."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON has it, for libraries (peft) that read a model's like this."""
        return cast("dict[str, Any]", msgspec.to_builtins(self))


class FeatureConfig(Config, frozen=True, kw_only=True):
    """Configuration of an encoder that reads spectral features.

    Attributes:
        features: The front end and its options.
    """

    features: FbankConfig | LogMelConfig


CODES_FAMILIES = "vq_wav2vec, vq_apc and npc"
"""Families whose encoders give codes, for messages."""


class EncoderDefinition(nn.Module, abc.ABC):
    """Base of `Encoder`: layers, counts of frames, identity and saving, without any call.

    A family sets `family` and `config_type` and implements `layer_infos` and `encode`; it overrides
    `min_samples`, `default_layer`, `sees_past`, `looks_ahead`, `uses_utterance_statistics`,
    `code_indices` and `stream_steps` where they differ.
    """

    family: str
    config_type: ClassVar[type[Config]]

    is_faster_together: ClassVar[bool] = False
    """True where the CPU infers several utterances at once faster than one after the other."""

    no_codes_reason: ClassVar[str] = "has no quantiser"
    """The reason why an encoder of the family gives no codes, after its name."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.title: str | None = None
        """Name of the model in print."""
        self.paper: Paper | None = None
        """The publication that the model comes from."""
        self.provenance = Provenance()
        self.unused_keys: tuple[str, ...] = ()
        """Keys of the checkpoint that the encoder does not need, such as a fine-tuned head's."""

    @property
    @abc.abstractmethod
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        """The layers in order of depth, by arithmetic from the config alone."""

    @abc.abstractmethod
    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        """Compute layers over a batch of waveforms, in order of depth.

        Args:
            batch: Padded waveforms (B, S), float32, zeros after each one's end.
            wanted: Names of the layers that will be used. The caller stops the iteration after
                the deepest of them; a layer that is neither wanted nor needed by a later one
                may be left out.

        Yields:
            A layer's name and its output, padded (B, T, D) or packed (1, N, D); padding may hold
            anything.
        """

    def named_states(
        self, states: Iterable[Tensor], layout: Layout, wanted: frozenset[str]
    ) -> Iterator[tuple[str, Batch]]:
        """`encode` of a family whose layers are the states, one each, of a stack."""
        following = iter(states)
        for info in self.layer_infos:
            # Do not bind the output: no reference may keep it alive while the next layer runs.
            if info.name in wanted:
                yield info.name, Batch(next(following), layout)
            else:
                next(following)

    @property
    def default_layer(self) -> str:
        """Name of the layer that a plain call returns."""
        return self.layer_infos[-1].name

    @property
    def min_samples(self) -> int:
        """The shortest waveform, in samples, for which every formula of the encoder is defined."""
        return max(info.geometry.min_samples() for info in self.layer_infos)

    @property
    def sees_past(self) -> bool:
        """True where a frame depends on all before it: recurrence, causal convolutions."""
        return False

    @property
    def looks_ahead(self) -> bool:
        """True where a frame depends on the whole utterance: attention."""
        return False

    @property
    def uses_utterance_statistics(self) -> bool:
        """True where a frame depends on means or variances over the whole utterance."""
        return False

    @property
    def codes_layer(self) -> str | None:
        """Name of the layer that the quantiser reads, None for an encoder without codes."""
        return next((info.name for info in self.layer_infos if info.num_codebooks), None)

    @property
    def num_codebooks(self) -> int:
        """K, codes of each frame; 0 for an encoder without codes."""
        return max(info.num_codebooks for info in self.layer_infos)

    def extra_repr(self) -> str:
        """Model, family, layers, dim and rate, which `print(encoder)` shows first."""
        info = self.layer_info(None)
        return (
            f"{self._name}, family={self.family}, layers={len(self.layer_infos)}, dim={info.dim}, "
            f"frames_per_second={SAMPLE_RATE / info.geometry.hop_samples:g}"
        )

    def codes_info(self) -> LayerInfo:
        """The layer that the quantiser reads.

        Raises:
            AuricleError: The encoder has no quantiser.
        """
        if self.codes_layer is None:
            raise AuricleError(
                f"{self._name} ({self.family}) {self.no_codes_reason}, so it gives no codes; "
                f"encoders of {CODES_FAMILIES} do; call the encoder itself for continuous "
                "representations"
            )
        return self.layer_info(self.codes_layer)

    def code_indices(self, frames: Batch) -> Batch:
        """Codes (B, T, K), int64, of the codes layer's output (B, T, D), in the same layout."""
        raise NotImplementedError  # pragma: no cover - only called where codes_layer is set

    def stream_steps(self) -> Iterator[Step]:
        """The steps of this encoder over a stream, in order of depth.

        Raises:
            AuricleError: The encoder cannot stream; `stream_refusal` makes the error.
        """
        if self.looks_ahead:
            raise self.stream_refusal("attention lets every frame depend on the whole utterance")
        raise self.stream_refusal("its family defines no steps of a stream (stream_steps)")

    def stream_refusal(self, reason: str) -> AuricleError:
        """The error to raise where this encoder cannot stream, for a reason."""
        return AuricleError(
            f"{self._name} ({self.family}) does not stream: {reason}; call the encoder on the "
            "whole waveform, or stream an encoder of apc, vq_apc, cpc, wav2vec or vq_wav2vec"
        )

    def layer_info(self, layer: int | str | None) -> LayerInfo:
        """The layer of an index (negative counts from the end), a name, or None for the default.

        Raises:
            LayerError: The encoder has no such layer; the message lists those it has.
        """
        layers = self.layer_infos
        if layer is None:
            layer = self.default_layer
        if isinstance(layer, str):
            for info in layers:
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
            f"{len(layers) - 1} or one of {names}"
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

    def num_frames(self, num_samples: IntOrTensor, layer: int | str | None = None) -> IntOrTensor:
        """Exact number of frames for `num_samples` samples at 16 kHz, by arithmetic alone.

        Args:
            num_samples: A count of samples, or an integer tensor of counts of any shape.
            layer: Index or name of a layer; None for the default one.

        Returns:
            The count of frames, of the same kind as `num_samples`; 0 below `min_samples`.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: `num_samples` is not a whole number or a tensor of them.
        """
        geometry = self.layer_info(layer).geometry
        if isinstance(num_samples, Tensor):
            if num_samples.is_floating_point():
                raise AuricleError(f"num_samples must be integers, but are {num_samples.dtype}")
            return geometry.num_frames(num_samples) * (num_samples >= self.min_samples)
        if not isinstance(num_samples, int):
            raise AuricleError(f"num_samples must be a whole number, but is {num_samples!r}")
        return geometry.num_frames(num_samples) if num_samples >= self.min_samples else 0

    def frame_times(self, num_samples: int, layer: int | str | None = None) -> Tensor:
        """Start and end of the receptive field of each frame, in seconds.

        The span is that of the analysis window or the feature extractor, with the convolutions
        after it that look both ways unless attention follows, clipped to the waveform.
        Recurrence, causal convolutions, attention and statistics over the utterance reach
        further; `info.receptive_field` tells which of them there are.

        Args:
            num_samples: Length of the waveform, in samples at 16 kHz.
            layer: Index or name of a layer; None for the default one.

        Returns:
            Tensor (frames, 2), float64.

        Raises:
            LayerError: The encoder has no such layer.
        """
        geometry = self.layer_info(layer).geometry
        frames = torch.arange(self.num_frames(num_samples, layer), dtype=torch.float64)
        starts = geometry.start_samples + frames * geometry.hop_samples
        spans = torch.stack([starts, starts + geometry.window_samples], dim=1)
        return spans.clamp(min=0, max=num_samples) / SAMPLE_RATE

    @property
    def info(self) -> ModelInfo:
        """Facts about this encoder: rates, layers, size and origin."""
        layers = self.layer_infos
        default = self.layer_info(None).geometry
        return ModelInfo(
            name=self._name,
            family=self.family,
            sample_rate=SAMPLE_RATE,
            hop_samples=default.hop_samples,
            receptive_field=ReceptiveField(
                samples=default.window_samples,
                centre_samples=default.start_samples + default.window_samples / 2,
                sees_past=self.sees_past,
                looks_ahead=self.looks_ahead,
                uses_utterance_statistics=self.uses_utterance_statistics,
            ),
            min_samples=self.min_samples,
            layers=tuple(info.name for info in layers),
            default_layer=self.default_layer,
            dims={info.name: info.dim for info in layers},
            num_parameters=sum(parameter.numel() for parameter in self.parameters()),
            title=self.title or self.family,
            paper=self.paper,
            training_data=self.provenance.training_data,
            licence=self.provenance.licence,
            source_url=self.provenance.source_url,
            sha256=self.provenance.sha256,
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights; the CPU for an encoder without weights."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights; float32 for an encoder without weights."""
        types = (parameter.dtype for parameter in self.parameters())
        return next((one for one in types if one.is_floating_point), torch.float32)

    def save(
        self,
        path: str | Path,
        *,
        extra: Mapping[str, str] | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        """Write weights, config and origin to one `.safetensors` file that `auricle.load` reads.

        Weights that are spread over processes (FSDP) are gathered: every process has to call it.

        Args:
            path: The file to write.
            extra: Further facts for the file's metadata.
            provenance: Origin of the weights that the file states; None for the encoder's own.

        Raises:
            AuricleError: Parts have been replaced, pruned or parametrised, so that the file could
                not be loaded.
            OutputError: The file cannot be written; nothing half-written is left.
        """
        state = self.state_dict()
        self._check_names(state)
        native = NativeCheckpoint(
            family=self.family,
            config=msgspec.json.encode(self.config).decode(),
            provenance=provenance or self.provenance,
            weights={name: _gathered(x) for name, x in state.items()},
            extra=extra or {},
        )
        write_native(Path(path), native)

    def _check_names(self, names: Iterable[str]) -> None:
        """Raise AuricleError unless the weights are those that the configuration makes."""
        if first_change(self) is None:
            return
        with torch.device("meta"):
            expected = type(self)(self.config).state_dict()
        if differing := sorted({*names} ^ {*expected}):
            raise AuricleError(
                f"the weights of this {self.family} encoder are not those that it loads by, such "
                f"as {', '.join(differing[:3])}: merge adapters (merge_and_unload), make pruning "
                "permanent (torch.nn.utils.prune.remove) and take parametrisations off "
                "(torch.nn.utils.parametrize.remove_parametrizations) before saving, or keep "
                "state_dict() itself by torch.save"
            )

    @property
    def _name(self) -> str:
        return self.provenance.name or self.family


def stacked(outputs: list[dict[str, Tensor]], infos: Sequence[LayerInfo]) -> list[Any]:
    """All layers as tensors (layers, frames, dim) where frames and widths agree, else as dicts.

    The deprecated form of `layer="all"`.
    """
    if len({(info.dim, info.geometry.frame_rule) for info in infos}) > 1:
        return outputs
    return [torch.stack(list(output.values())) for output in outputs]


def _gathered(x: Tensor) -> Tensor:
    """All of a tensor that may be sharded."""
    return cast("Tensor", x.full_tensor()) if hasattr(x, "full_tensor") else x
