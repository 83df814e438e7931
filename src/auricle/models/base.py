"""The call surface of every encoder: waveforms in, representations, codes or streams out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.audio.inputs import Waveform, as_waveforms, checked_pad_short
from auricle.errors import AudioError, AuricleError, warn_deprecated
from auricle.frontends import FbankConfig
from auricle.geometry import SAMPLE_RATE
from auricle.inference.streaming.session import StreamSession, StreamStatistics, measured
from auricle.inference.streaming.stages import Step, feature_step
from auricle.models.definition import EncoderDefinition, FeatureConfig, stacked
from auricle.nn.batch import (
    LENGTH_TYPES,
    Batch,
    frames_of,
    length_groups,
    padding_mask,
    zero_padding,
)
from auricle.nn.cpu import prepack
from auricle.nn.cpu.policy import (
    is_traced,
    known_unchanged,
    may_bypass,
    needs_gradients,
    takes_one_by_one,
)
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
        if isinstance(layer, Sequence) and (layer == "all" or not isinstance(layer, str)):
            warn_deprecated(
                f"encoder(wavs, layer={layer!r}) is deprecated: encoder.layers(wavs, names) "
                "returns layers by name"
            )
            outputs = self.layers(wavs, layer, pad_short=pad_short)
            return stacked(outputs, self.layer_infos) if layer == "all" else outputs
        name = self.layer_info(layer).name
        return [output[name] for output in self._outputs(self._waveforms(wavs, pad_short), [name])]

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
        outputs = self._outputs(self._waveforms(wavs, pad_short), chosen)
        return [{name: output[name] for name in chosen} for output in outputs]

    def forward_padded(
        self, waveforms: Tensor, lengths: Tensor, *, layer: int | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode a padded batch of waveforms into a padded batch of frames, tensor to tensor.

        For code that works on tensors alone: data-parallel training, `torch.compile`,
        `torch.export`; `padded_module` is the module whose `forward` this is. A row of the
        output is what a call of the encoder gives for `waveforms[i, :lengths[i]]` alone. To
        extract representations call the encoder itself, which also checks for NaN.

        Args:
            waveforms: (B, S), floating point, at 16 kHz in [-1, 1]. Samples from a row's length on
                may hold anything, NaN included.
            lengths: (B,), integers: valid samples of each row, from `min_samples` to S.
            layer: Index or name of the layer; None for the default one.

        Returns:
            Frames (B, T, D), float32, zeros from a row's length on, with T the frames of S samples;
            and the valid frames of each row (B,), int64. Both are on the encoder's device.

        Raises:
            AudioError: Shapes, types or lengths are others. Lengths are not checked under a
                compiler or exporter.
            LayerError: The encoder has no such layer.
        """
        info = self.layer_info(layer)
        waveforms, lengths = self._checked_padded(waveforms, lengths)
        num_frames = info.geometry.num_frames(lengths)
        if is_traced():
            mask = padding_mask(lengths, waveforms.shape[1], waveforms.device)
            batch = Batch.padded(zero_padding(waveforms, mask, time_dim=1), lengths)
            layers = self.encode(batch, frozenset([info.name]))
            x = next(output.values for name, output in layers if name == info.name)
            mask = padding_mask(num_frames, x.shape[1], x.device)
            return zero_padding(x.float().contiguous(), mask, time_dim=1), num_frames
        size = info.geometry.num_frames(waveforms.shape[1])
        rows = [row[:length] for row, length in zip(waveforms, lengths.tolist(), strict=True)]
        if not rows:
            return waveforms.new_zeros(0, size, info.dim), num_frames
        outputs = [output[info.name] for output in self._outputs(rows, [info.name])]
        frames = [F.pad(output, (0, 0, 0, size - len(output))) for output in outputs]
        return torch.stack(frames), num_frames

    def padded_module(self, layer: int | str | None = None) -> PaddedEncoder:
        """A module whose `forward(waveforms, lengths)` is `forward_padded` of a layer.

        For wrappers that call `forward`, such as `DistributedDataParallel`, and for
        `torch.compile` and `torch.export`. The module shares the encoder's weights.

        Raises:
            LayerError: The encoder has no such layer.
        """
        return PaddedEncoder(self, self.layer_info(layer).name)

    def _checked_padded(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """A padded batch, float32, and its lengths, int64, on the encoder's device."""
        if not isinstance(waveforms, Tensor) or not isinstance(lengths, Tensor):
            kinds = f"{type(waveforms).__name__} and {type(lengths).__name__}"
            raise AudioError(f"waveforms and lengths must be tensors, but are {kinds}")
        is_dense = waveforms.layout == torch.strided
        if waveforms.dim() != 2 or not waveforms.is_floating_point() or not is_dense:
            raise AudioError(
                "waveforms must be a dense floating-point tensor (B, S), but are "
                f"{tuple(waveforms.shape)}, {waveforms.dtype}, {waveforms.layout}"
            )
        if lengths.shape != waveforms.shape[:1] or lengths.dtype not in LENGTH_TYPES:
            raise AudioError(
                f"lengths must be an integer tensor ({waveforms.shape[0]},), one for each row of "
                f"waveforms, but are {tuple(lengths.shape)}, {lengths.dtype}"
            )
        if not is_traced():
            for index, length in enumerate(lengths.tolist()):
                if not self.min_samples <= length <= waveforms.shape[1]:
                    raise AudioError(
                        f"lengths must be from {self.min_samples} (the encoder's minimum) to "
                        f"{waveforms.shape[1]} (of waveforms), but lengths[{index}] is {length}"
                    )
        return waveforms.to(self.device, torch.float32), lengths.to(self.device, torch.int64)

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
        info = self.codes_info()
        waveforms = self._waveforms(wavs, checked_pad_short(pad_short, short))
        if not waveforms:
            return []
        results = waveforms.copy()
        with self._computing(waveforms):
            for group, _, frames in self._encoded(waveforms, [info.name]):
                for index, row in zip(group, self.code_indices(frames).rows(), strict=True):
                    results[index] = row
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
            pad_short=pad_short,
            device=self.device,
        )

    def _outputs(
        self, waveforms: Sequence[Tensor], names: Sequence[str]
    ) -> list[dict[str, Tensor]]:
        """Layers `names` of checked waveforms, each (frames, dim), by name, in order of depth."""
        if not waveforms:
            return []
        results: list[dict[str, Tensor]] = [{} for _ in waveforms]
        with self._computing(waveforms):
            for group, name, frames in self._encoded(waveforms, names):
                values = reaching(frames.values, self.parameters()).float()
                for index, row in zip(group, frames.layout.rows(values), strict=True):
                    results[index][name] = row
        return results

    @contextmanager
    def _computing(self, waveforms: Sequence[Tensor]) -> Iterator[None]:
        """Turn gradients off where none could flow; inspect modules once where none is hooked."""
        is_unchanging = may_bypass(*self.children())
        with (
            known_unchanged() if is_unchanging else nullcontext(),
            torch.set_grad_enabled(needs_gradients(self, waveforms)),
            prepack.unchanging() if is_unchanging else nullcontext(),
            prepack.as_large(self),
        ):
            yield

    def _encoded(
        self, waveforms: Sequence[Tensor], names: Sequence[str]
    ) -> Iterator[tuple[list[int], str, Batch]]:
        """Yield layers `names` of waveforms: their indices, the name, its output.

        Stops after the deepest requested layer.
        """
        for group in self._groups(waveforms):
            batch = Batch.of([waveforms[index] for index in group])
            missing = set(names)
            for name, frames in self.encode(batch, frozenset(names)):
                if name not in missing:
                    continue
                missing.remove(name)
                yield group, name, frames
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
        if not takes_one_by_one(waveforms[0], (), *self.children()):
            budget = int(MAX_PADDED_SECONDS * SAMPLE_RATE)
            return length_groups([len(waveform) for waveform in waveforms], budget)
        if not self.is_faster_together:
            return [[index] for index in everything]
        order = sorted(everything, key=lambda index: -len(waveforms[index]))
        return [order[start : start + MAX_TOGETHER] for start in range(0, len(order), MAX_TOGETHER)]


class PaddedEncoder(nn.Module):
    """`Encoder.forward_padded` of one layer as the `forward` of a module."""

    def __init__(self, encoder: Encoder, layer: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.layer = layer

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) and their counts (B,) of padded waveforms (B, S) and lengths (B,)."""
        return self.encoder.forward_padded(waveforms, lengths, layer=self.layer)


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
        config = self.config.features
        features = config.features(batch.values, batch.lengths).to(self.dtype)
        return Batch.padded(features, frames_of(config.geometry, batch.lengths))
