"""`s3prl.nn`: S3PRLUpstream and Featurizer, padded batches in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.errors import AudioError, AuricleError, LayerError
from auricle.info import SAMPLE_RATE
from auricle.models.outputs import fitted, weighted_sum
from auricle.s3prl import hub

MIN_SAMPLES = SAMPLE_RATE // 20
"""Samples that a shorter waveform is padded to there: 0.05 s."""

LengthRule = Literal["s3prl", "exact"]
"""`s3prl`: 1 + (samples - 1) // stride, the last frame repeated or cut; `exact`: what there is."""


class S3PRLUpstream(nn.Module):
    """An encoder with the interface of `s3prl.nn.S3PRLUpstream`, in eval mode at first.

    Attributes:
        upstream: The upstream, as of `s3prl.hub`; `upstream.encoder` is the encoder.
        normalize: Whether each frame of each state has zero mean and unit variance.
        lengths: The rule of the lengths.
    """

    def __init__(
        self,
        name: str,
        path_or_url: str | Path | None = None,
        refresh: bool = False,
        normalize: bool = False,
        extra_conf: Mapping[str, Any] | None = None,
        randomize: bool = False,
        *,
        lengths: LengthRule = "s3prl",
        generator: torch.Generator | None = None,
    ) -> None:
        """Load an encoder by its name in s3prl, or in the library.

        Args:
            name: One of `available_names()`.
            path_or_url: Path or URL of a checkpoint, for names that take one.
            refresh: Download again what is in the cache.
            normalize: Apply a layer norm without weights to every state.
            extra_conf: Further options of the entry point, as of `s3prl.hub`.
            randomize: Draw the weights again.
            lengths: `"s3prl"` to give as many frames as s3prl does, `"exact"` those that the
                encoder gives.
            generator: Source of random weights; None for torch's own.

        Raises:
            UnknownModelError: There is no such name; the message says of a name of s3prl what to
                do instead.
            AuricleError: As of `auricle.load`; an option is unknown.
        """
        super().__init__()
        if lengths not in get_args(LengthRule):
            rules = " or ".join(get_args(LengthRule))
            raise AuricleError(f"lengths must be {rules}, but is {lengths!r}")
        conf: dict[str, Any] = {"refresh": refresh, **(extra_conf or {})}
        if path_or_url is not None:
            conf["ckpt"] = path_or_url
        self.upstream = hub.upstream(name, **conf)
        if randomize:
            _randomize(self.upstream, generator)
        self.normalize = normalize
        self.lengths: LengthRule = lengths
        self.eval()

    @classmethod
    def available_names(cls, only_registered_ckpt: bool = False) -> list[str]:
        """Names of s3prl that are here, and the library's; optionally not those of checkpoints."""
        return hub.options(only_registered_ckpt)

    @property
    def num_layers(self) -> int:
        """Number of hidden states."""
        return len(self.upstream.names)

    @property
    def downsample_rates(self) -> list[int]:
        """Samples from one frame to the next, of each state."""
        infos = map(self.upstream.encoder.layer_info, self.upstream.names)
        return [info.geometry.hop_samples for info in infos]

    @property
    def hidden_sizes(self) -> list[int]:
        """D of each state."""
        return [self.upstream.encoder.layer_info(name).dim for name in self.upstream.names]

    def forward(self, wavs: Tensor, wavs_len: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encode a padded batch; each utterance as if it were alone.

        Args:
            wavs: (B, S) or (B, S, 1), at 16 kHz.
            wavs_len: (B,), samples of each.

        Returns:
            A list of states (B, T, D), zeros after the end of each utterance, and a list of their
            frames (B,), int64.

        Raises:
            AudioError: Shapes do not agree, lengths are no whole numbers up to S, there is no
                waveform; as in a call of the encoder.
        """
        if wavs.dim() == 3:
            wavs = wavs.squeeze(-1)
        wavs_len = torch.as_tensor(wavs_len)
        if wavs.dim() != 2 or wavs_len.shape != wavs.shape[:1]:
            raise AudioError(
                f"wavs must be (B, S) with lengths (B,), but are {tuple(wavs.shape)} with "
                f"{tuple(wavs_len.shape)}"
            )
        counts = wavs_len.tolist()
        size = wavs.shape[1]
        if wavs_len.is_floating_point() or any(not 0 <= count <= size for count in counts):
            raise AudioError(
                f"wavs_len must be whole numbers from 0 to {size}, the samples of wavs, but are "
                f"{counts}"
            )
        rows = [wav[:count] for wav, count in zip(wavs, counts, strict=True)]
        if self.lengths == "s3prl":
            rows = [F.pad(row, (0, max(MIN_SAMPLES - len(row), 0))) for row in rows]
        all_hs, all_lens = [], []
        for states, stride in zip(self.upstream.states(rows), self.downsample_rates, strict=True):
            if self.lengths == "s3prl":
                states = [
                    fitted(state, 1 + (count - 1) // stride)
                    for state, count in zip(states, counts, strict=True)
                ]
            hs = nn.utils.rnn.pad_sequence(states, batch_first=True)
            all_hs.append(F.layer_norm(hs, hs.shape[-1:]) if self.normalize else hs)
            all_lens.append(wavs_len.new_tensor([len(state) for state in states]))
        return all_hs, all_lens


def _randomize(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw parameters again: vectors as they are spread, others by Xavier's normal rule."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() < 2:
                spread, mean = torch.std_mean(parameter, correction=0)
                parameter.normal_(mean.item(), spread.item(), generator=generator)
            else:
                nn.init.xavier_normal_(parameter, generator=generator)


class S3PRLFeaturizer(nn.Module):
    """A learnt weighted sum of hidden states, with the interface of `s3prl.nn.Featurizer`.

    The upstream is not part of it. An upstream of one state has no weights.
    """

    def __init__(
        self,
        upstream: S3PRLUpstream,
        layer_selections: Sequence[int] | None = None,
        normalize: bool = False,
    ) -> None:
        """Begin with equal weights.

        Args:
            upstream: The upstream whose states are summed.
            layer_selections: Indices of the states; None for all.
            normalize: Whether each frame of each state has zero mean and unit variance before.

        Raises:
            LayerError: There is no such state, or those there are differ in width or rate.
        """
        super().__init__()
        sizes, rates = upstream.hidden_sizes, upstream.downsample_rates
        if len({*sizes}) > 1 or len({*rates}) > 1:
            raise LayerError(
                f"states of a weighted sum must be of one width and rate, but are {sizes} wide and "
                f"{rates} samples apart; take one of them"
            )
        chosen = range(len(sizes)) if layer_selections is None else sorted(layer_selections)
        if not chosen or any(not 0 <= index < len(sizes) for index in chosen):
            raise LayerError(
                f"layer_selections must be indices from 0 to {len(sizes) - 1}, but are {[*chosen]}"
            )
        self.layer_selections = [*chosen]
        self.normalize = normalize
        self._output_size, self._downsample_rate = sizes[0], rates[0]
        if len(sizes) > 1:
            self.weights = nn.Parameter(torch.zeros(len(self.layer_selections)))

    @property
    def output_size(self) -> int:
        """D of the sum."""
        return self._output_size

    @property
    def downsample_rate(self) -> int:
        """Samples from one frame of the sum to the next."""
        return self._downsample_rate

    def forward(
        self, all_hs: Sequence[Tensor], all_lens: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Sum the states.

        Args:
            all_hs: States (B, T, D) of the upstream; a single one is returned unchanged.
            all_lens: Their frames (B,).

        Returns:
            The sum (B, T, D) and its frames (B,).
        """
        if len(all_hs) == 1:
            return all_hs[0], all_lens[0]
        states = [all_hs[index] for index in self.layer_selections]
        summed = weighted_sum(states, self.weights, normalize=self.normalize)
        return summed, all_lens[self.layer_selections[0]]


Featurizer = S3PRLFeaturizer
