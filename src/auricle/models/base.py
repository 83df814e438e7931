"""The call surface of every encoder: waveforms in, representations, codes or streams out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.audio.inputs import Waveform, as_waveforms, checked_pad_short
from auricle.errors import AuricleError, warn_deprecated
from auricle.frontends import FbankConfig
from auricle.inference.session import StreamSession, StreamStatistics, measured
from auricle.inference.stages import Step, feature_step
from auricle.info import SAMPLE_RATE, FinalNorm
from auricle.models.definition import EncoderDefinition, FeatureConfig
from auricle.models.outputs import PaddedEncoder, Pool, batches_of, collate, pool_frames, stacked
from auricle.nn.batch import (
    Batch,
    checked_padded,
    frames_of,
    padding_mask,
    zero_padding,
)
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import is_traced
from auricle.nn.layers import reaching
from auricle.nn.transformer import TransformerLayer


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
        final_norm: FinalNorm = "keep",
        short: Literal["error", "pad"] | None = None,
    ) -> list[Any]:
        """Encode unpadded waveforms into unpadded representations, in the order of the input.

        Args:
            wavs: List of waveforms. Each is a 1-D float tensor or NumPy array of samples at
                16 kHz in [-1, 1], a path of an audio file, or a `(samples, sample_rate)` pair.
            layer: Index (negative counts from the end) or name of the layer to return, computed
                only as deep as that layer; None for the default one. `taps` go by name, such as
                `"layer_9.pre_residual"`. `"all"` and lists of layers are deprecated: `layers`
                returns several by name.
            pad_short: Append zeros to a waveform shorter than `min_samples`, up to that length,
                instead of raising an error.
            final_norm: In encoders with a norm after the last layer (`has_final_norm`): `"keep"`
                applies it to that layer's output, `"strip"` to none, `"each"` to every layer's.
                Taps are as they are.
            short: Deprecated: `"pad"` is `pad_short=True`, `"error"` is `pad_short=False`.

        Returns:
            One float32 tensor (frames, dim) per waveform, on the encoder's device.

        Raises:
            AudioError: A waveform is empty, too short or long, not 1-D, not floating point, or
                holds NaN or infinity; a file cannot be decoded. The message names the index.
            LayerError: The encoder has no such layer.
            AuricleError: `final_norm` is none of these, or the encoder has no final norm.
        """
        pad_short = checked_pad_short(pad_short, short)
        if isinstance(layer, Sequence) and (layer == "all" or not isinstance(layer, str)):
            warn_deprecated(
                f"encoder(wavs, layer={layer!r}) is deprecated: encoder.layers(wavs, names) "
                "returns layers by name"
            )
            outputs = self.layers(wavs, layer, pad_short=pad_short, final_norm=final_norm)
            return stacked(outputs, self.layer_infos) if layer == "all" else outputs
        name = self.layer_info(layer).name
        self.check_final_norm(final_norm)
        outputs = self._outputs(self._waveforms(wavs, pad_short), [name], final_norm)
        return [output[name] for output in outputs]

    if TYPE_CHECKING:

        def __call__(
            self,
            wavs: Sequence[Waveform],
            layer: int | str | None = None,
            *,
            pad_short: bool = False,
            final_norm: FinalNorm = "keep",
        ) -> list[Tensor]:
            """Call `forward`; typed here because `nn.Module` types every call as `Any`."""

    def layers(
        self,
        wavs: Sequence[Waveform],
        names: Sequence[int | str] | Literal["all"] = "all",
        *,
        pad_short: bool = False,
        final_norm: FinalNorm = "keep",
    ) -> list[dict[str, Tensor]]:
        """Encode waveforms into several layers by name.

        Args:
            wavs: As in a call of the encoder.
            names: List of names or indices (negative counts from the end) of layers, or `"all"`,
                which are those of `layer_infos`; `taps` go by name. Nothing after the deepest of
                them is computed.
            pad_short: As in a call of the encoder.
            final_norm: As in a call of the encoder.

        Returns:
            One dict per waveform, from the name of a layer to its float32 tensor (frames, dim), in
            the order of `names`.

        Raises:
            AudioError: As in a call of the encoder.
            LayerError: The encoder has no such layer, or `names` is no list.
            AuricleError: As in a call of the encoder.
        """
        chosen = self.layer_names(names)
        self.check_final_norm(final_norm)
        outputs = self._outputs(self._waveforms(wavs, pad_short), chosen, final_norm)
        return [{name: output[name] for name in chosen} for output in outputs]

    def forward_padded(
        self,
        waveforms: Tensor | Sequence[Waveform],
        lengths: Tensor | None = None,
        *,
        layer: int | str | None = None,
        final_norm: FinalNorm = "keep",
    ) -> tuple[Tensor, Tensor]:
        """Encode a padded batch of waveforms into a padded batch of frames, tensor to tensor.

        For code that works on tensors alone: data-parallel training, `torch.compile`,
        `torch.export`; `padded_module` is the module whose `forward` this is. A row of the
        output is what a call of the encoder gives for `waveforms[i, :lengths[i]]` alone. To
        extract representations call the encoder itself, which also checks for NaN.

        Args:
            waveforms: (B, S), floating point, at 16 kHz in [-1, 1]. Samples from a row's length on
                may hold anything, NaN included. Or a list, as in a call of the encoder.
            lengths: (B,), integers: valid samples of each row, from `min_samples` to S; None with
                a list.
            layer: Index or name of the layer; None for the default one.
            final_norm: As in a call of the encoder.

        Returns:
            Frames (B, T, D), float32, zeros from a row's length on, with T the frames of S samples;
            and the valid frames of each row (B,), int64. Both are on the encoder's device.

        Raises:
            AudioError: Shapes, types or lengths are others. Lengths are not checked under a
                compiler or exporter.
            LayerError: The encoder has no such layer.
            AuricleError: As in a call of the encoder.
        """
        info = self.layer_info(layer)
        self.check_final_norm(final_norm)
        if not isinstance(waveforms, Tensor) and lengths is None:
            waveforms, lengths = collate(waveforms)
        limits = None if is_traced() else (self.min_samples, self.fixed_samples)
        waveforms, lengths = checked_padded(waveforms, lengths, limits)
        waveforms, lengths = waveforms.to(self.device), lengths.to(self.device)
        num_frames = info.geometry.num_frames(lengths)
        if is_traced():
            mask = padding_mask(lengths, waveforms.shape[1], waveforms.device)
            batch = Batch.padded(zero_padding(waveforms, mask, time_dim=1), lengths)
            layers = self._encode(batch, [info.name], final_norm)
            x = next(output.values for name, output in layers if name == info.name)
            mask = padding_mask(num_frames, x.shape[1], x.device)
            return zero_padding(x.float().contiguous(), mask, time_dim=1), num_frames
        size = info.geometry.num_frames(waveforms.shape[1])
        rows = [row[:length] for row, length in zip(waveforms, lengths.tolist(), strict=True)]
        if not rows:
            return waveforms.new_zeros(0, size, info.dim), num_frames
        outputs = [output[info.name] for output in self._outputs(rows, [info.name], final_norm)]
        frames = [F.pad(output, (0, 0, 0, size - len(output))) for output in outputs]
        return torch.stack(frames), num_frames

    def pooled(
        self,
        wavs: Sequence[Waveform],
        pool: Pool = "mean",
        layer: int | str | None = None,
        *,
        pad_short: bool = False,
        final_norm: FinalNorm = "keep",
    ) -> Tensor:
        """Encode each waveform into one vector, over its own frames alone.

        Args:
            wavs: As in a call of the encoder.
            pool: `"mean"`, `"max"`, or `"meanstd"`: means, then standard deviations.
            layer: As in a call of the encoder.
            pad_short: As in a call of the encoder.
            final_norm: As in a call of the encoder.

        Returns:
            Tensor (B, D), for `"meanstd"` (B, 2 D), float32, on the encoder's device.

        Raises:
            AudioError, LayerError: As in a call of the encoder.
            AuricleError: As in a call of the encoder; there is no such pooling.
        """
        empty = pool_frames(torch.zeros(1, self.layer_info(layer).dim, device=self.device), pool)
        outputs = self(wavs, layer=layer, pad_short=pad_short, final_norm=final_norm)
        return torch.cat([empty[:0], *(pool_frames(x, pool) for x in outputs)])

    embed = pooled
    """`pooled`, by the name that it has in libraries of embeddings: `encoder.embed(files)`."""

    def padded_module(
        self, layer: int | str | None = None, *, final_norm: FinalNorm = "keep"
    ) -> PaddedEncoder:
        """A module whose `forward(waveforms, lengths)` is `forward_padded` of a layer.

        For wrappers that call `forward`, such as `DistributedDataParallel`, and for
        `torch.compile` and `torch.export`. The module shares the encoder's weights.

        Raises:
            LayerError: The encoder has no such layer.
            AuricleError: As in a call of the encoder.
        """
        self.check_final_norm(final_norm)
        return PaddedEncoder(self, self.layer_info(layer).name, final_norm)

    def checkpoint_layers(self, is_on: bool = True) -> None:
        """Keep only inputs of Transformer layers for the backward pass, which computes the rest.

        Training takes less memory and about a third more time; numbers are the same.

        Raises:
            AuricleError: The encoder has no such layers.
        """
        layers = [part for part in self.modules() if isinstance(part, TransformerLayer)]
        if not layers:
            raise AuricleError(f"{self.family} has no Transformer layers to compute again")
        for layer in layers:
            layer.is_recomputed = is_on

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
        self.codes_info()  # an error where there are none
        waveforms = self._waveforms(wavs, checked_pad_short(pad_short, short))
        if not waveforms:
            return []
        parts: list[list[Tensor]] = [[] for _ in waveforms]
        with prepack.computing(self, waveforms):
            for group, name, frames in self._encoded(waveforms, self.codes_layers):
                for index, row in zip(group, self.layer_codes(name, frames).rows(), strict=True):
                    parts[index].append(row)
        return [torch.cat(part, dim=-1) for part in parts]

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
        info = self.codes_info() if codes else self.layer_info(layer)
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

    def _waveforms(self, wavs: Sequence[Waveform], pad_short: bool = False) -> list[Tensor]:
        return as_waveforms(
            wavs,
            sample_rate=SAMPLE_RATE,
            min_samples=self.min_samples,
            max_samples=self.fixed_samples,
            pad_short=pad_short,
            device=self.device,
        )

    def _outputs(
        self, waveforms: Sequence[Tensor], names: Sequence[str], final_norm: FinalNorm = "keep"
    ) -> list[dict[str, Tensor]]:
        """Layers `names` of checked waveforms, each (frames, dim), by name, in order of depth."""
        if not waveforms:
            return []
        results: list[dict[str, Tensor]] = [{} for _ in waveforms]
        with prepack.computing(self, waveforms):
            for group, name, frames in self._encoded(waveforms, names, final_norm):
                values = reaching(frames.values, self.parameters()).float()
                for index, row in zip(group, frames.layout.rows(values), strict=True):
                    results[index][name] = row
        return results

    def _encoded(
        self, waveforms: Sequence[Tensor], names: Sequence[str], final_norm: FinalNorm = "keep"
    ) -> Iterator[tuple[list[int], str, Batch]]:
        """Yield layers `names` of waveforms: their indices, the name, its output.

        Stops after the deepest requested layer.
        """
        for group in batches_of(self, waveforms):
            batch = Batch.of([waveforms[index] for index in group])
            missing = set(names)
            for name, frames in self._encode(batch, names, final_norm):
                if name not in missing:
                    continue
                missing.remove(name)
                yield group, name, frames
                if not missing:
                    break


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

    def features(self, batch: Batch) -> Batch:
        """Front-end features (B, T, D) in the weights' type, padded with zeros, of waveforms."""
        config, lengths = self.config.features, batch.lengths
        features = config.features(batch.values, lengths).to(self.dtype)
        return Batch.padded(features, frames_of(config.geometry, lengths))
