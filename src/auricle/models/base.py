"""The contract: what every encoder promises, whatever its family.

A family says what its layers are and computes them over a padded batch. Everything else (input
checks, padding, choice of layer, lengths, output) is here, once.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, overload

import msgspec
import torch
from torch import Tensor, nn

from auricle.audio.waveforms import Waveform, as_waveforms
from auricle.errors import AuricleError, LayerError
from auricle.files.native import NativeCheckpoint, write_native
from auricle.frontends import FbankConfig, LogMelConfig, extract
from auricle.nn import packed
from auricle.nn.fast_paths import (
    first_change,
    infers_on_cpu,
    is_hooked,
    known_unchanged,
    may_bypass,
    needs_gradients,
)
from auricle.nn.padding import pad_waveforms
from auricle.nn.reached import reaching
from auricle.outputs import SAMPLE_RATE as SAMPLE_RATE
from auricle.outputs import LayerInfo, ModelInfo, Paper, Provenance, ReceptiveField

if TYPE_CHECKING:
    from auricle.outputs import IntOrTensor
    from auricle.streaming.session import StreamSession, StreamStatistics
    from auricle.streaming.stages import Step

MAX_TOGETHER = 32
"""Utterances that the CPU encodes at once, where that is faster: more of them gain nothing."""


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


class Encoder(nn.Module, abc.ABC):
    """A speech encoder: a list of waveforms in, a list of representations out.

    A family subclasses it, sets `family` and `config_type`, and implements `layer_infos` and
    `encode`; it overrides `min_samples`, `default_layer`, `sees_past`, `looks_ahead`,
    `uses_utterance_statistics`, `codes_layer`, `num_codebooks`, `code_indices` and `stream_steps`
    where they differ.
    """

    family: str
    config_type: ClassVar[type[Config]]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.title: str | None = None
        """What the model is called in print."""
        self.paper: Paper | None = None
        """The publication that the model comes from."""
        self.provenance = Provenance()
        self.unused_keys: tuple[str, ...] = ()
        """Keys of the checkpoint that the encoder does not need, such as a fine-tuned head's."""

    # What a family defines

    @property
    @abc.abstractmethod
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        """The layers in order of depth, by arithmetic from the config alone."""

    @abc.abstractmethod
    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        """Compute layers over a padded batch, in order of depth.

        Args:
            waveforms: (B, S) float32, zeros past each true end.
            num_samples: True length of each waveform, in samples.
            wanted: Names of the layers that will be used. The caller stops the iteration after
                the deepest of them; a layer that is neither wanted nor needed by a later one
                may be left out.

        Yields:
            A layer's name and its output (B, T, D); frames past an utterance's true end may
            hold anything.
        """

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
        """Whether recurrence or causal convolutions let a frame depend on all before it."""
        return False

    @property
    def looks_ahead(self) -> bool:
        """Whether attention lets a frame depend on the whole utterance."""
        return False

    @property
    def uses_utterance_statistics(self) -> bool:
        """Whether a frame depends on means or variances over the whole utterance."""
        return False

    @property
    def codes_layer(self) -> str | None:
        """Name of the layer that the quantiser reads, None for an encoder without codes."""
        return None

    @property
    def num_codebooks(self) -> int:
        """K, codes of each frame; 0 for an encoder without codes."""
        return 0

    is_faster_together: ClassVar[bool] = False
    """Whether the CPU infers several utterances at once faster than one after the other."""

    def code_indices(self, x: Tensor, num_frames: Sequence[int]) -> Tensor:
        """Codes (B, T, K), int64, of the codes layer's padded output `x` (B, T, D)."""
        raise NotImplementedError  # pragma: no cover - only called where codes_layer is set

    def stream_steps(self) -> Iterator[Step]:
        """The steps of this encoder over a stream, in order of depth.

        Raises:
            AuricleError: It cannot stream; `stream_refusal` makes the error.
        """
        if self.looks_ahead:
            raise self.stream_refusal("attention lets every frame depend on the whole utterance")
        raise self.stream_refusal("its family does not say how")

    # What every encoder does

    def forward(
        self,
        wavs: Sequence[Waveform],
        layer: int | str | Sequence[int | str] | None = None,
        *,
        short: Literal["error", "pad"] = "error",
    ) -> list[Tensor] | list[dict[str, Tensor]]:
        """Encode unpadded waveforms into unpadded representations, in the order of the input.

        Args:
            wavs: List of waveforms. Each is a 1-D float tensor or NumPy array of samples at
                16 kHz in [-1, 1], a path of an audio file, or a `(samples, sample_rate)` pair.
            layer: Index (negative counts from the end) or name of the layer to return, computed
                only as deep as that layer; a list of them for several; `"all"` for every layer;
                None for the default one.
            short: What to do with a waveform shorter than `min_samples`: `"error"`, or `"pad"`
                to append zeros up to it.

        Returns:
            One float32 tensor (frames, dim) per waveform, on the encoder's device. With
            `layer="all"`, per waveform a tensor (layers, frames, dim) where all layers share
            frames and width, else a dict of layer name to (frames, dim). With a list of layers
            always such a dict, in the order of the list.

        Raises:
            AudioError: A waveform is empty, too short, not 1-D, not floating point, or holds NaN
                or infinity; a file cannot be decoded. The message names the index.
            LayerError: The encoder has no such layer.
        """
        layers = self.layer_infos
        if isinstance(layer, str) and layer == "all":
            outputs = self._run(wavs, [info.name for info in layers], short)
            if len({(info.dim, info.geometry.frame_rule) for info in layers}) > 1:
                return outputs
            return [torch.stack(list(output.values())) for output in outputs]
        if isinstance(layer, Sequence) and not isinstance(layer, str):
            names = [self.layer_info(one).name for one in layer]
            return [{n: output[n] for n in names} for output in self._run(wavs, names, short)]
        name = self.layer_info(layer).name
        return [output[name] for output in self._run(wavs, [name], short)]

    @overload
    def __call__(
        self,
        wavs: Sequence[Waveform],
        layer: Literal["all"],
        *,
        short: Literal["error", "pad"] = "error",
    ) -> list[Any]: ...

    @overload
    def __call__(
        self,
        wavs: Sequence[Waveform],
        layer: list[int | str] | list[int] | list[str] | tuple[int | str, ...],
        *,
        short: Literal["error", "pad"] = "error",
    ) -> list[dict[str, Tensor]]: ...

    @overload
    def __call__(
        self,
        wavs: Sequence[Waveform],
        layer: int | str | None = None,
        *,
        short: Literal["error", "pad"] = "error",
    ) -> list[Tensor]: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`; typed here because `nn.Module` types every call as `Any`."""
        return super().__call__(*args, **kwargs)

    def codes(
        self, wavs: Sequence[Waveform], *, short: Literal["error", "pad"] = "error"
    ) -> list[Tensor]:
        """Discrete codes of each waveform.

        Args:
            wavs: As in a call of the encoder.
            short: As in a call of the encoder.

        Returns:
            One int64 tensor (frames, codebooks) per waveform, entries counted from 0 in each
            codebook.

        Raises:
            AuricleError: The encoder has no quantiser.
            AudioError: As in a call of the encoder.
        """
        info = self._codes_info()
        waveforms = self._waveforms(wavs, short)
        if not waveforms:
            return []
        results = waveforms.copy()
        with self._computing(waveforms):
            for group, _, x in self._encoded(waveforms, [info.name]):
                num_frames = [info.geometry.num_frames(len(waveforms[index])) for index in group]
                codes = self.code_indices(x, num_frames)
                for index, row, count in zip(group, codes, num_frames, strict=True):
                    results[index] = row[:count]
        return results

    def stream(
        self,
        layer: int | str | None = None,
        *,
        codes: bool = False,
        normalisation: Literal["running"] | StreamStatistics = "running",
    ) -> StreamSession:
        """Open a session that takes samples as they come and gives frames as they are decided.

        Args:
            layer: Index or name of the layer; None for the default one.
            codes: Whether codes come out, not a layer.
            normalisation: What norms over the whole utterance go by, in encoders that have them:
                `"running"` for mean and variance of all frames up to and including each, or
                statistics, the same for each frame, that `stream_statistics` has measured.

        Returns:
            A session: `push(samples)` gives the frames that they decide, `finish()` the last.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: The family cannot stream (the message says why), the encoder is in
                training mode, has no quantiser, or the statistics are not its own.
        """
        from auricle.streaming.session import StreamSession

        if codes and layer is not None:
            raise AuricleError(f"codes come from no layer but their own: leave out layer={layer!r}")
        info = self._codes_info() if codes else self.layer_info(layer)
        return StreamSession(self, info, gives_codes=codes, normalisation=normalisation)

    def stream_statistics(self, wavs: Sequence[Waveform]) -> StreamStatistics:
        """Measure, over waveforms, the statistics that streams of this encoder may go by.

        With those of an utterance a stream gives what the encoder gives for it. Means and
        variances are those over all frames of all waveforms. What one layer makes of the
        waveforms is held in memory: some minutes of speech are enough.

        Args:
            wavs: As in a call of the encoder; one waveform at least.

        Returns:
            What `stream(normalisation=...)` takes; it can be pickled.

        Raises:
            AudioError: As in a call of the encoder.
            AuricleError: The family cannot stream, or the encoder is in training mode.
        """
        from auricle.streaming.session import measured

        return measured(self, self._waveforms(wavs, "error"))

    def stream_refusal(self, reason: str) -> AuricleError:
        """The error to raise where this encoder cannot stream, for a reason."""
        return AuricleError(
            f"{self._name} ({self.family}) does not stream: {reason}; call the encoder on the "
            "whole waveform, or stream an encoder of apc, vq_apc, cpc, wav2vec or vq_wav2vec"
        )

    def layer_info(self, layer: int | str | None) -> LayerInfo:
        """The layer that an index (negative counts from the end), a name or None (the default
        one) stands for.

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
            isinstance(layer, int)
            and not isinstance(layer, bool)
            and -len(layers) <= layer < len(layers)
        ):
            return layers[layer]
        names = ", ".join(info.name for info in layers)
        raise LayerError(
            f"{self._name} has no layer {layer!r}: expected an index from {-len(layers)} to "
            f"{len(layers) - 1} or one of {names}"
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

    def frame_times(self, num_samples: int, layer: int | str | None = None) -> Tensor:
        """Start and end of the span of waveform that each frame sees, in seconds.

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
        """What this encoder is: rates, layers, size and origin."""
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

    def save(self, path: str | Path, *, extra: Mapping[str, str] | None = None) -> None:
        """Write weights, config and origin to one `.safetensors` file that `auricle.load` reads.

        Weights that are spread over processes (FSDP) are gathered: every process has to call it.

        Args:
            path: The file to write.
            extra: Further facts for the file's metadata.

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
            provenance=self.provenance,
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

    def _codes_info(self) -> LayerInfo:
        if self.codes_layer is None:
            raise AuricleError(
                f"{self._name} ({self.family}) has no quantiser, so it gives no codes; call the "
                "encoder itself for continuous representations"
            )
        return self.layer_info(self.codes_layer)

    def _waveforms(self, wavs: Sequence[Waveform], short: Literal["error", "pad"]) -> list[Tensor]:
        return as_waveforms(
            wavs,
            sample_rate=SAMPLE_RATE,
            min_samples=self.min_samples,
            short=short,
            device=self.device,
        )

    def _run(
        self, wavs: Sequence[Waveform], names: list[str], short: Literal["error", "pad"]
    ) -> list[dict[str, Tensor]]:
        """Layers `names` of each waveform, each (frames, dim), by name, in their own order."""
        waveforms = self._waveforms(wavs, short)
        if not waveforms:
            return []
        results: list[dict[str, Tensor]] = [{} for _ in waveforms]
        with self._computing(waveforms):
            for group, name, x in self._encoded(waveforms, names):
                geometry = self.layer_info(name).geometry
                rows = reaching(x, self.parameters()).float()
                for index, row in zip(group, rows, strict=True):
                    results[index][name] = row[: geometry.num_frames(len(waveforms[index]))]
        return results

    @contextmanager
    def _computing(self, waveforms: Sequence[Tensor]) -> Iterator[None]:
        """No gradients where none could flow; all looked at once where nothing changes it."""
        is_unchanging = may_bypass(*self.children())
        with (
            known_unchanged() if is_unchanging else nullcontext(),
            torch.set_grad_enabled(needs_gradients(self, waveforms)),
            packed.unchanging() if is_unchanging else nullcontext(),
        ):
            yield

    def _encoded(
        self, waveforms: Sequence[Tensor], names: Sequence[str]
    ) -> Iterator[tuple[list[int], str, Tensor]]:
        """Yield layers `names` of waveforms: their indices, the name, its padded output (B, T, D).

        Nothing is computed behind the last layer that is wanted.
        """
        for group in self._groups(waveforms):
            num_samples = [len(waveforms[index]) for index in group]
            padded = pad_waveforms([waveforms[index] for index in group])
            missing = set(names)
            for name, x in self.encode(padded, num_samples, frozenset(names)):
                if name not in missing:
                    continue
                missing.remove(name)
                yield group, name, x
                if not missing:
                    break

    def _groups(self, waveforms: Sequence[Tensor]) -> list[list[int]]:
        """Which waveforms to encode together, by index.

        On the CPU padding costs more than several at once save, but for recurrence: there they go
        together, longest first, so that their ends follow each other.
        """
        is_lone = infers_on_cpu(waveforms[0]) and not is_hooked(*self.children())
        if self.training or not is_lone:
            return [list(range(len(waveforms)))]
        if not self.is_faster_together:
            return [[index] for index in range(len(waveforms))]
        order = sorted(range(len(waveforms)), key=lambda index: -len(waveforms[index]))
        return [order[start : start + MAX_TOGETHER] for start in range(0, len(order), MAX_TOGETHER)]


def _gathered(x: Tensor) -> Tensor:
    """All of a tensor that may be sharded."""
    return cast("Tensor", x.full_tensor()) if hasattr(x, "full_tensor") else x


class FeatureEncoder(Encoder):
    """An encoder that reads spectral features (fbank or log mel) of the waveform."""

    config: FeatureConfig

    @property
    def min_samples(self) -> int:
        return self.config.features.min_samples

    @property
    def uses_utterance_statistics(self) -> bool:
        features = self.config.features
        return isinstance(features, LogMelConfig) or features.cmvn

    def stream_steps(self) -> Iterator[Step]:
        """The front end alone; families add the steps of what reads it."""
        from auricle.streaming.features import feature_step, obstacle

        if self.looks_ahead:
            yield from super().stream_steps()
        features = self.config.features
        reason = obstacle(features)
        if reason is not None:
            raise self.stream_refusal(reason)
        assert isinstance(features, FbankConfig)
        yield feature_step(features, self.dtype)

    def features(self, waveforms: Tensor, num_samples: Sequence[int]) -> Tensor:
        """Front-end features (B, T, D) in the weights' type, zeros past each true end."""
        return extract(waveforms, num_samples, self.config.features).to(self.dtype)
