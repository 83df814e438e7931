"""Definition of an encoder: what a family implements, and facts that follow by arithmetic."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
import torch
from torch import Tensor

from auricle.audio.files import checked_rate
from auricle.errors import AuricleError
from auricle.files.safetensors import NativeCheckpoint, write_native
from auricle.frontends import FrontendConfig
from auricle.info import (
    SAMPLE_RATE,
    FinalNorm,
    LayerInfo,
    ModelInfo,
    Paper,
    Provenance,
    ReceptiveField,
    num_resampled,
)
from auricle.models.outputs import LayerChoice
from auricle.nn.batch import Batch, Layout
from auricle.nn.cpu.policy import first_change

if TYPE_CHECKING:
    from auricle.inference.stages import Step
    from auricle.info import IntOrTensor


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

    features: FrontendConfig


CODES_FAMILIES = "vq_wav2vec, vq_apc, npc, dinosr, spidr and spin"
"""Families whose encoders give codes, for messages."""


class EncoderDefinition(LayerChoice):
    """Base of `Encoder`: counts of frames, identity and saving, without any call.

    A family sets `family` and `config_type` and implements `layer_infos` and `encode`; it overrides
    `min_samples`, `default_layer`, `taps`, `has_final_norm`, `sees_past`, `looks_ahead`,
    `uses_utterance_statistics`, `code_indices` and `stream_steps` where they differ.
    """

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

    @abc.abstractmethod
    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        """Compute layers over a batch of waveforms, in order of depth.

        Args:
            batch: Padded waveforms (B, S), float32, zeros after each one's end.
            wanted: Names of the layers that will be used, and of taps. The caller stops the
                iteration after the deepest of them; a layer that is neither wanted nor needed by
                a later one may be left out. A tap comes only where it is wanted.

        Yields:
            A layer's name and its output, padded (B, T, D) or packed (1, N, D); padding may hold
            anything.
        """

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        """`encode` with the final norm as given, where `has_final_norm`."""
        raise NotImplementedError  # pragma: no cover - only called where has_final_norm is set

    def named_states(
        self,
        states: Iterable[Tensor],
        layout: Layout,
        wanted: frozenset[str],
        names: Sequence[str] | None = None,
    ) -> Iterator[tuple[str, Batch]]:
        """`encode` by the states of a stack, which have these names; None for those of layers."""
        following = iter(states)
        for name in names or [info.name for info in self.layer_infos]:
            # Do not bind the output: no reference may keep it alive while the next layer runs.
            if name in wanted:
                yield name, Batch(next(following), layout)
            else:
                next(following)

    @property
    def min_samples(self) -> int:
        """The shortest waveform, in samples, for which every formula of the encoder is defined."""
        return max(info.geometry.min_samples() for info in self.layer_infos)

    @property
    def fixed_samples(self) -> int | None:
        """Samples that every waveform is padded to, with zeros, before it is encoded.

        Longer ones are refused. None for an encoder of any length.
        """
        return None

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
    def codes_layers(self) -> tuple[str, ...]:
        """Names of the layers that the quantiser reads, in order of depth; one in most families."""
        return tuple(info.name for info in self.layer_infos if info.num_codebooks)

    @property
    def codes_layer(self) -> str | None:
        """Name of the deepest layer that the quantiser reads, None for an encoder without codes."""
        return next(reversed(self.codes_layers), None)

    @property
    def num_codebooks(self) -> int:
        """K, codes of each frame; 0 for an encoder without codes."""
        return sum(info.num_codebooks for info in self.layer_infos)

    def extra_repr(self) -> str:
        """Model, family, layers, dim and rate, which `print(encoder)` shows first."""
        info = self.layer_info(None)
        return (
            f"{self._name}, family={self.family}, layers={len(self.layer_infos)}, dim={info.dim}, "
            f"frames_per_second={SAMPLE_RATE / info.geometry.hop_samples:g}"
        )

    def codes_info(self) -> LayerInfo:
        """The deepest layer that the quantiser reads.

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

    def layer_codes(self, name: str, frames: Batch) -> Batch:
        """Codes of one of `codes_layers`, for families whose quantiser reads several."""
        return self.code_indices(frames)

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

    def frame_times(
        self,
        num_samples: int,
        layer: int | str | None = None,
        *,
        sample_rate: float = SAMPLE_RATE,
    ) -> Tensor:
        """Start and end of the receptive field of each frame, in seconds.

        The span is that of the analysis window or the feature extractor, with the convolutions
        after it that look both ways unless attention follows, clipped to the waveform.
        Recurrence, causal convolutions, attention and statistics over the utterance reach
        further; `info.receptive_field` tells which of them there are.

        Args:
            num_samples: Length of the waveform, in samples at `sample_rate`.
            layer: Index or name of a layer; None for the default one.
            sample_rate: Rate that `num_samples` counts at, in Hz: the file's own, of files that the
                encoder resamples.

        Returns:
            Tensor (frames, 2), float64.

        Raises:
            LayerError: The encoder has no such layer.
            AudioError: The rate is not plausible.
        """
        num_samples = num_resampled(num_samples, checked_rate(sample_rate), SAMPLE_RATE)
        geometry = self.layer_info(layer).geometry
        frames = torch.arange(self.num_frames(num_samples, layer), dtype=torch.float64)
        starts = geometry.start_samples + frames * geometry.hop_samples
        spans = torch.stack([starts, starts + geometry.window_samples], dim=1)
        return spans.clamp(min=0, max=num_samples) / SAMPLE_RATE

    def frame_centres(
        self,
        num_samples: int,
        layer: int | str | None = None,
        *,
        sample_rate: float = SAMPLE_RATE,
    ) -> Tensor:
        """Middle of the receptive field of each frame, in seconds, one hop apart.

        Those of `frame_times`, without clipping to the waveform: so they are evenly spaced, and
        the first or last may lie outside of it where an encoder pads. Arguments are the same.

        Returns:
            Tensor (frames,), float64.

        Raises:
            LayerError, AudioError: As in `frame_times`.
        """
        num_samples = num_resampled(num_samples, checked_rate(sample_rate), SAMPLE_RATE)
        geometry = self.layer_info(layer).geometry
        frames = torch.arange(self.num_frames(num_samples, layer), dtype=torch.float64)
        first = geometry.start_samples + geometry.window_samples / 2
        return (first + frames * geometry.hop_samples) / SAMPLE_RATE

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
            changed_config=self.provenance.changes,
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

    def _encode(
        self, batch: Batch, names: Sequence[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        wanted = frozenset(names)
        if final_norm == "keep":
            return self.encode(batch, wanted)
        return self.encode_normed(batch, wanted, final_norm)

    @property
    def _name(self) -> str:
        return self.provenance.name or self.family


def _gathered(x: Tensor) -> Tensor:
    """All of a tensor that may be sharded."""
    return cast("Tensor", x.full_tensor()) if hasattr(x, "full_tensor") else x
