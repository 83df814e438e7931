"""The call surface of every encoder: waveforms in, representations, codes or streams out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from auricle.audio.inputs import Waveform, as_waveforms, checked_pad_short
from auricle.errors import AuricleError, LayerError, warn_deprecated
from auricle.frontends import FbankConfig, LogMelConfig
from auricle.geometry import SAMPLE_RATE
from auricle.inference.streaming.session import StreamSession, StreamStatistics, measured
from auricle.inference.streaming.stages import Step, feature_step
from auricle.info import LayerInfo
from auricle.models.definition import Config, EncoderDefinition
from auricle.nn import packed
from auricle.nn.fast_paths import (
    infers_on_cpu,
    is_hooked,
    known_unchanged,
    may_bypass,
    needs_gradients,
)
from auricle.nn.padding import pad_waveforms
from auricle.nn.reached import reaching

MAX_TOGETHER = 32
"""Utterances that the CPU encodes at once, where that is faster: more of them gain nothing."""

MAX_PADDED_SECONDS = 320.0
"""Audio of a padded batch, padding included: longer lists are encoded in several batches."""


class Encoder(EncoderDefinition):
    """A speech encoder: a list of waveforms in, a list of representations out.

    `encoder(wavs)` gives one layer, `encoder.layers(wavs)` several by name, `encoder.codes(wavs)`
    the quantiser's codes, `encoder.stream()` frames of samples as they arrive.
    """

    def forward(
        self,
        wavs: Sequence[Waveform],
        layer: int | str | Sequence[int | str] | None = None,
        *,
        pad_short: bool = False,
        short: Literal["error", "pad"] | None = None,
    ) -> list[Any]:
        """Encode unpadded waveforms into unpadded representations, in the order of the input.

        Args:
            wavs: List of waveforms. Each is a 1-D float tensor or NumPy array of samples at
                16 kHz in [-1, 1], a path of an audio file, or a `(samples, sample_rate)` pair.
            layer: Index (negative counts from the end) or name of the layer to return, computed
                only as deep as that layer; None for the default one. `"all"` and lists of layers
                are deprecated: `layers` returns several by name.
            pad_short: Append zeros to a waveform shorter than `min_samples`, up to that length,
                instead of raising an error.
            short: Deprecated: `"pad"` is `pad_short=True`, `"error"` is `pad_short=False`.

        Returns:
            One float32 tensor (frames, dim) per waveform, on the encoder's device.

        Raises:
            AudioError: A waveform is empty, too short, not 1-D, not floating point, or holds NaN
                or infinity; a file cannot be decoded. The message names the index.
            LayerError: The encoder has no such layer.
        """
        pad_short = checked_pad_short(pad_short, short)
        if layer == "all" or (isinstance(layer, Sequence) and not isinstance(layer, str)):
            warn_deprecated(
                f"encoder(wavs, layer={layer!r}) is deprecated: encoder.layers(wavs, names) "
                "returns layers by name"
            )
            outputs = self.layers(wavs, layer, pad_short=pad_short)
            return stacked(outputs, self.layer_infos) if layer == "all" else outputs
        name = self.layer_info(layer).name
        return [output[name] for output in self._run(wavs, [name], pad_short)]

    if TYPE_CHECKING:

        def __call__(
            self,
            wavs: Sequence[Waveform],
            layer: int | str | None = None,
            *,
            pad_short: bool = False,
        ) -> list[Tensor]:
            """Call `forward`; typed here because `nn.Module` types every call as `Any`."""

    def layers(
        self,
        wavs: Sequence[Waveform],
        names: Sequence[int | str] | Literal["all"] = "all",
        *,
        pad_short: bool = False,
    ) -> list[dict[str, Tensor]]:
        """Encode waveforms into several layers by name.

        Args:
            wavs: As in a call of the encoder.
            names: List of names or indices (negative counts from the end) of layers, or `"all"`.
                Nothing after the deepest of them is computed.
            pad_short: As in a call of the encoder.

        Returns:
            One dict per waveform, from the name of a layer to its float32 tensor (frames, dim), in
            the order of `names`.

        Raises:
            AudioError: As in a call of the encoder.
            LayerError: The encoder has no such layer, or `names` is no list.
        """
        chosen = self.layer_names(names)
        outputs = self._run(wavs, chosen, pad_short)
        return [{name: output[name] for name in chosen} for output in outputs]

    def layer_names(self, names: Sequence[int | str] | Literal["all"]) -> list[str]:
        """Names of layers, each once, for a list of names or indices, or `"all"`.

        Raises:
            LayerError: The encoder has no such layer, or `names` is no list.
        """
        if names == "all":
            return [info.name for info in self.layer_infos]
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise LayerError(
                f"names must be 'all' or a list of layers, but is {names!r}; pass [{names!r}], or "
                f"call encoder(wavs, layer={names!r}) for one layer"
            )
        return list(dict.fromkeys(self.layer_info(one).name for one in names))

    def codes(
        self,
        wavs: Sequence[Waveform],
        *,
        pad_short: bool = False,
        short: Literal["error", "pad"] | None = None,
    ) -> list[Tensor]:
        """Discrete codes of each waveform.

        Args:
            wavs: As in a call of the encoder.
            pad_short: As in a call of the encoder.
            short: Deprecated, as in a call of the encoder.

        Returns:
            One int64 tensor (frames, codebooks) per waveform, entries counted from 0 in each
            codebook.

        Raises:
            AuricleError: The encoder has no quantiser.
            AudioError: As in a call of the encoder.
        """
        info = self._codes_info()
        waveforms = self._waveforms(wavs, checked_pad_short(pad_short, short))
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
            codes: Return codes instead of a layer.
            normalisation: Statistics of norms over the whole utterance, in encoders that have
                them: `"running"` for mean and variance of all frames up to and including each, or
                statistics, the same for each frame, that `stream_statistics` has measured.

        Returns:
            A session: `push(samples)` gives the frames that they decide, `finish()` the last.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: The family cannot stream (the message says why), the encoder is in
                training mode, has no quantiser, or the statistics are not its own.
        """
        if codes and layer is not None:
            raise AuricleError(f"codes come from no layer but their own: leave out layer={layer!r}")
        info = self._codes_info() if codes else self.layer_info(layer)
        return StreamSession(self, info, gives_codes=codes, normalisation=normalisation)

    def stream_statistics(self, wavs: Sequence[Waveform]) -> StreamStatistics:
        """Measure, over waveforms, the statistics that streams of this encoder may go by.

        With those of an utterance a stream gives what the encoder gives for it. Means and
        variances are those over all frames of all waveforms. The output of one layer for all of
        the waveforms is held in memory: some minutes of speech are enough.

        Args:
            wavs: As in a call of the encoder; one waveform at least.

        Returns:
            A value for `stream(normalisation=...)`; it can be pickled.

        Raises:
            AudioError: As in a call of the encoder.
            AuricleError: The family cannot stream, or the encoder is in training mode.
        """
        return measured(self, self._waveforms(wavs))

    def _codes_info(self) -> LayerInfo:
        if self.codes_layer is None:
            raise AuricleError(
                f"{self._name} ({self.family}) has no quantiser, so it gives no codes; call the "
                "encoder itself for continuous representations"
            )
        return self.layer_info(self.codes_layer)

    def _waveforms(self, wavs: Sequence[Waveform], pad_short: bool = False) -> list[Tensor]:
        return as_waveforms(
            wavs,
            sample_rate=SAMPLE_RATE,
            min_samples=self.min_samples,
            pad_short=pad_short,
            device=self.device,
        )

    def _run(
        self, wavs: Sequence[Waveform], names: Sequence[str], pad_short: bool
    ) -> list[dict[str, Tensor]]:
        """Layers `names` of each waveform, each (frames, dim), by name, in order of depth."""
        waveforms = self._waveforms(wavs, pad_short)
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
        """Turn gradients off where none could flow; inspect modules once where none is hooked."""
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

        Stops after the deepest requested layer.
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
        """Indices of the waveforms of each batch.

        A batch in training is one batch. On the CPU padding costs more than several at once save,
        except for recurrence, which takes the longest first, so that the ends follow each other.
        """
        everything = list(range(len(waveforms)))
        if self.training:
            return [everything]
        if not infers_on_cpu(waveforms[0]) or is_hooked(*self.children()):
            return padded_groups([len(waveform) for waveform in waveforms])
        if not self.is_faster_together:
            return [[index] for index in everything]
        order = sorted(everything, key=lambda index: -len(waveforms[index]))
        return [order[start : start + MAX_TOGETHER] for start in range(0, len(order), MAX_TOGETHER)]


def padded_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of waveforms of these lengths, in batches of at most `MAX_PADDED_SECONDS`.

    All in one batch keep their order. Else the longest come first, so that waveforms of like
    length share a batch; one that is longer than the limit is alone.
    """
    budget = int(MAX_PADDED_SECONDS * SAMPLE_RATE)
    if len(lengths) * max(lengths) <= budget:
        return [list(range(len(lengths)))]
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not groups or (len(groups[-1]) + 1) * longest > budget:
            groups.append([])
            longest = lengths[index]
        groups[-1].append(index)
    return groups


def stacked(outputs: list[dict[str, Tensor]], infos: Sequence[LayerInfo]) -> list[Any]:
    """All layers as tensors (layers, frames, dim) where frames and widths agree, else as dicts.

    The deprecated form of `layer="all"`.
    """
    if len({(info.dim, info.geometry.frame_rule) for info in infos}) > 1:
        return outputs
    return [torch.stack(list(output.values())) for output in outputs]


class FeatureConfig(Config, frozen=True, kw_only=True):
    """Configuration of an encoder that reads spectral features.

    Attributes:
        features: The front end and its options.
    """

    features: FbankConfig | LogMelConfig


class FeatureEncoder(Encoder):
    """An encoder that reads spectral features (fbank or log mel) of the waveform."""

    config: FeatureConfig

    @property
    def min_samples(self) -> int:
        return self.config.features.min_samples

    @property
    def uses_utterance_statistics(self) -> bool:
        return self.config.features.uses_utterance_statistics

    def stream_steps(self) -> Iterator[Step]:
        """The front end alone; families add the steps of what reads it."""

        if self.looks_ahead:
            yield from super().stream_steps()
        features = self.config.features
        if features.streaming_obstacle is not None:
            raise self.stream_refusal(features.streaming_obstacle)
        assert isinstance(features, FbankConfig)
        yield feature_step(features, self.dtype)

    def features(self, waveforms: Tensor, num_samples: Sequence[int]) -> Tensor:
        """Front-end features (B, T, D) in the weights' type, zeros past each true end."""
        return self.config.features.features(waveforms, num_samples).to(self.dtype)
