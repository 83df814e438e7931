"""PASE: multi-task prediction of views of the waveform by small workers (arXiv:1904.03416)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.frontends import LogMelConfig
from auricle.info import SAMPLE_RATE
from auricle.models.pase import Pase
from auricle.nn.batch import Batch
from auricle.objectives.base import Loss, Objective, ObjectiveConfig
from auricle.objectives.pase_targets import NUM_PROSODY, RunningNorm, prosody

Worker = Literal["waveform", "spectrum", "mfcc", "prosody", "lim", "gim", "spc"]

ALL_WORKERS: tuple[Worker, ...] = (
    "waveform",
    "spectrum",
    "mfcc",
    "prosody",
    "lim",
    "gim",
    "spc",
)

WINDOW_MS = 25.0
"""Analysis window of the spectral targets (the authors' `win` of 400 samples)."""


class PaseObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of PASE's objective; the defaults are the paper's (section 2) and its repository's.

    Attributes:
        workers: Tasks: regression of the waveform, its log power spectrum, MFCC and prosody; and
            classification of pairs, whether a frame is of the same utterance (`lim`), the mean of
            a chunk is (`gim`), and whether frames follow or precede another (`spc`).
        chunk_seconds: Length of the encoded chunks.
        worker_dim: Units of a worker's hidden layer (256).
        decoder_dims: Channels of the transposed convolutions of the waveform decoder.
        decoder_kernel_sizes: Their kernel sizes.
        decoder_strides: Their strides, whose product is the encoder's hop.
        num_bins: Bins of the log power spectrum (1025, of 2048 samples).
        num_mfcc: Cepstral coefficients (20).
        sequence_frames: Consecutive frames in a sequence of `spc` (5).
        sequence_min_frames: Smallest distance of a sequence from its anchor, the receptive field
            (150 ms).
        sequence_max_frames: Largest distance (500 ms).
    """

    workers: tuple[Worker, ...] = ALL_WORKERS
    chunk_seconds: float = 1.0
    worker_dim: int = 256
    decoder_dims: tuple[int, ...] = (512, 256, 128)
    decoder_kernel_sizes: tuple[int, ...] = (30, 30, 30)
    decoder_strides: tuple[int, ...] = (4, 4, 10)
    num_bins: int = 1025
    num_mfcc: int = 20
    sequence_frames: int = 5
    sequence_min_frames: int = 15
    sequence_max_frames: int = 50

    def __post_init__(self) -> None:
        if not self.workers or len(set(self.workers)) < len(self.workers):
            raise ValueError(f"workers must be some, each once, but are {self.workers}")
        sizes = (self.decoder_dims, self.decoder_kernel_sizes, self.decoder_strides)
        if len({len(entries) for entries in sizes}) > 1:
            raise ValueError(
                "decoder_dims, decoder_kernel_sizes and decoder_strides must be equally long, but "
                f"have {', '.join(str(len(entries)) for entries in sizes)} entries"
            )
        if any(kernel < step for kernel, step in zip(*sizes[1:], strict=True)):
            raise ValueError(
                "decoder_kernel_sizes must be at least decoder_strides, but are "
                f"{self.decoder_kernel_sizes} and {self.decoder_strides}"
            )
        nearest = self.sequence_min_frames + self.sequence_frames - 1
        if min(self.sequence_frames, self.sequence_min_frames) < 1 or (
            self.sequence_max_frames < nearest
        ):
            raise ValueError(
                "sequence_frames and sequence_min_frames must be at least 1, and "
                f"sequence_max_frames at least {nearest} to hold them, but are "
                f"{self.sequence_frames}, {self.sequence_min_frames}, {self.sequence_max_frames}"
            )
        if self.chunk_seconds <= 0:
            raise ValueError(f"chunk_seconds must be above 0, but is {self.chunk_seconds}")

    @property
    def chunk_samples(self) -> int:
        """Length of a chunk in samples."""
        return round(self.chunk_seconds * SAMPLE_RATE)

    @property
    def min_frames(self) -> int:
        """Least frames of a chunk that holds an anchor with a sequence on either side."""
        return 2 * (self.sequence_min_frames + self.sequence_frames - 1) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """Random draws for a batch, on the CPU.

    Attributes:
        starts: (2, B), first samples of two non-overlapping chunks of each utterance.
        others: (B,), index of another utterance for each; its own if it is alone.
        anchors: (2 B,), anchor frame of each chunk for `spc`.
        pasts: (2 B,), first frame of the sequence before the anchor.
        futures: (2 B,), first frame of the sequence after the anchor.
    """

    starts: Tensor
    others: Tensor
    anchors: Tensor
    pasts: Tensor
    futures: Tensor


class WaveformDecoder(nn.Module):
    """Waveform worker: transposed convolutions from frames to samples, then a hidden layer."""

    def __init__(self, config: PaseObjectiveConfig, *, dim: int) -> None:
        super().__init__()
        dims = (dim, *config.decoder_dims)
        self.strides = config.decoder_strides
        self.convs = nn.ModuleList(
            nn.ConvTranspose1d(dims[index], dims[index + 1], kernel, step, (kernel - step) // 2)
            for index, (kernel, step) in enumerate(
                zip(config.decoder_kernel_sizes, config.decoder_strides, strict=True)
            )
        )
        self.activations = nn.ModuleList(nn.PReLU(width) for width in config.decoder_dims)
        self.output = worker(dims[-1], config.worker_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, 1, hop T) of frames `x` (B, D, T)."""
        for conv, activation, step in zip(self.convs, self.activations, self.strides, strict=True):
            length = x.shape[2] * step
            # An odd difference of kernel size and stride gives one sample too many.
            x = activation(conv(x)[:, :, :length])
        samples: Tensor = self.output(x)
        return samples


def worker(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Worker: one hidden layer over each frame of (B, input_dim, T) (section 2.2)."""
    return nn.Sequential(
        nn.Conv1d(input_dim, hidden_dim, 1),
        nn.PReLU(hidden_dim),
        nn.Conv1d(hidden_dim, output_dim, 1),
    )


class PaseObjective(Objective):
    """Mean loss of the workers over chunks of the utterances.

    Differs from the paper in three points: targets are standardised by running statistics instead
    of statistics computed beforehand; the two chunks of an utterance do not overlap; prosody comes
    from simpler trackers (see `prosody`).
    """

    config_type = PaseObjectiveConfig
    encoder: Pase
    config: PaseObjectiveConfig

    def __init__(self, encoder: Pase, config: PaseObjectiveConfig) -> None:
        super().__init__(encoder, config)
        hop_samples = encoder.layer_infos[-1].geometry.hop_samples
        self.hop_samples = hop_samples
        self.num_frames = config.chunk_samples // hop_samples
        self._check_chunks()
        self.targets: dict[Worker, int] = {
            name: dim
            for name, dim in (
                ("spectrum", config.num_bins),
                ("mfcc", config.num_mfcc),
                ("prosody", NUM_PROSODY),
            )
            if name in config.workers
        }
        dim = encoder.config.output_dim
        inputs = {"lim": 2 * dim, "gim": 2 * dim, "spc": (1 + config.sequence_frames) * dim}
        self.workers = nn.ModuleDict()
        for name in config.workers:
            if name == "waveform":
                self.workers[name] = WaveformDecoder(config, dim=dim)
            else:
                self.workers[name] = worker(
                    inputs.get(name, dim), config.worker_dim, self.targets.get(name, 1)
                )
        self.target_norms = nn.ModuleDict(
            {name: RunningNorm(width) for name, width in self.targets.items()}
        )

    def _check_chunks(self) -> None:
        config, hop_samples = self.config, self.hop_samples
        if "waveform" in config.workers and math.prod(config.decoder_strides) != hop_samples:
            raise ValueError(
                f"decoder_strides must multiply to the encoder's hop of {hop_samples} samples, but "
                f"are {config.decoder_strides}"
            )
        if (
            config.chunk_samples % hop_samples
            or config.chunk_samples < self.encoder.min_samples
            or self.encoder.num_frames(config.chunk_samples) != self.num_frames
        ):
            raise ValueError(
                f"a chunk must hold a whole number of the encoder's frames of {hop_samples} samples"
                f", and at least {self.encoder.min_samples} samples, but has {config.chunk_samples}"
            )
        if "spc" in config.workers and self.num_frames < config.min_frames:
            raise ValueError(
                f"a chunk must have at least {config.min_frames} frames for spc, but has "
                f"{self.num_frames}"
            )

    @property
    def min_samples(self) -> int:
        # Two chunks that do not overlap.
        return 2 * self.config.chunk_samples

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        draws = draw(num_samples, self.num_frames, self.config, generator)
        chunks = self._chunks(waveforms, draws.starts.flatten())
        lengths = [self.config.chunk_samples] * len(chunks)
        *_, (_, frames) = self.encoder.encode(
            Batch.padded(chunks, lengths), frozenset({"embedding"})
        )
        x = frames.values.transpose(1, 2)  # (2 B, D, T)
        losses, accuracies = self._classify(x, draws)
        losses |= self._regress(x[: len(num_samples)], chunks[: len(num_samples)])
        value = torch.stack([losses[name] for name in self.config.workers]).mean()
        metrics = {**losses, **{f"{name}_accuracy": part for name, part in accuracies.items()}}
        return Loss(value=value, metrics={name: part.detach() for name, part in metrics.items()})

    def _chunks(self, waveforms: Tensor, starts: Tensor) -> Tensor:
        """Chunks (2 B, chunk_samples) of waveforms (B, S): all first ones, then all second ones."""
        samples = starts.unsqueeze(1) + torch.arange(self.config.chunk_samples)
        rows = torch.arange(len(waveforms)).repeat(2).unsqueeze(1)
        return waveforms[rows.to(waveforms.device), samples.to(waveforms.device)]

    @torch.no_grad()
    def _targets(self, chunks: Tensor) -> dict[str, Tensor]:
        """Standardised targets (B, D, T) of the regression workers for chunks (B, S)."""
        lengths = [chunks.shape[1]] * len(chunks)
        targets = {}
        for name, norm in self.target_norms.items():
            if name == "prosody":
                features = prosody(chunks, hop_samples=self.hop_samples)
            else:
                features = self._front_end(name).features(chunks, lengths)
            targets[name] = norm(features[:, : self.num_frames]).transpose(1, 2)
        return targets

    def _front_end(self, name: str) -> LogMelConfig:
        """Front end of the log power spectrum, or of MFCC from the same transform."""
        spectrum = LogMelConfig(
            kind="linear",
            num_freqs=self.config.num_bins,
            window_ms=WINDOW_MS,
            hop_ms=self.hop_samples / SAMPLE_RATE * 1000,
            target_level_db=None,
            cmvn=False,
        )
        if name == "spectrum":
            return spectrum
        return msgspec.structs.replace(
            spectrum, kind="mfcc", num_mfcc=self.config.num_mfcc, log=False
        )

    def _regress(self, x: Tensor, chunks: Tensor) -> dict[str, Tensor]:
        """Losses of the regression workers from frames `x` (B, D, T) of chunks (B, S)."""
        losses = {}
        if "waveform" in self.workers:
            samples = self.workers["waveform"](x).squeeze(1).float()
            losses["waveform"] = F.l1_loss(samples, chunks)
        for name, target in self._targets(chunks).items():
            losses[name] = F.mse_loss(self.workers[name](x).float(), target)
        return losses

    def _classify(self, x: Tensor, draws: Draws) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and accuracies of the classification workers from frames `x` (2 B, D, T)."""
        anchor, same = x.chunk(2)
        other = same[draws.others.to(x.device)]
        # A lone utterance has no negative: weight 0, so that all parameters still get gradients.
        weight = float(len(anchor) > 1)
        losses, accuracies = {}, {}
        for name, parts in (
            ("lim", (anchor, same, other)),
            ("gim", tuple(part.mean(dim=2, keepdim=True) for part in (anchor, same, other))),
        ):
            if name in self.workers:
                loss, accuracies[name] = pair_loss(self.workers[name], *parts)
                losses[name] = weight * loss
        if "spc" in self.workers:
            span = self.config.sequence_frames
            losses["spc"], accuracies["spc"] = pair_loss(
                self.workers["spc"],
                sequence(x, draws.anchors, 1),
                sequence(x, draws.futures, span),
                sequence(x, draws.pasts, span),
            )
        return losses, accuracies


def pair_loss(
    classifier: nn.Module, anchor: Tensor, positive: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and accuracy of a pair classifier (section 2.2, eq. 1).

    `anchor` is (B, D, T), `positive` and `negative` are (B, E, T); the classifier maps
    (B, D + E, T) to logits.
    """
    yes = classifier(torch.cat([anchor, positive], dim=1)).float()
    no = classifier(torch.cat([anchor, negative], dim=1)).float()
    loss = (F.softplus(-yes).mean() + F.softplus(no).mean()) / 2
    accuracy = ((yes > 0).float().mean() + (no <= 0).float().mean()) / 2
    return loss, accuracy


def sequence(x: Tensor, starts: Tensor, span: int) -> Tensor:
    """Concatenation of the `span` frames of each row of `x` (B, D, T) from its start.

    Returns (B, span D, 1).
    """
    frames = (starts.unsqueeze(1) + torch.arange(span)).to(x.device)
    chosen = x.gather(2, frames.unsqueeze(1).expand(-1, x.shape[1], -1))
    return chosen.transpose(1, 2).flatten(1).unsqueeze(2)


def draw(
    num_samples: Sequence[int],
    num_frames: int,
    config: PaseObjectiveConfig,
    generator: torch.Generator,
) -> Draws:
    """Draw chunks, negatives and sequences.

    Args:
        num_samples: Valid samples of each utterance, at least two chunks.
        num_frames: Frames of a chunk.
        config: Sizes.
        generator: Source of the draws.
    """
    size = len(num_samples)
    spare = torch.tensor(num_samples) - 2 * config.chunk_samples
    offsets = uniform(torch.zeros(2, size), spare, generator).sort(dim=0).values
    starts = offsets + torch.tensor([[0], [config.chunk_samples]])
    is_swapped = torch.rand(size, generator=generator) < 0.5
    ones = torch.ones(size)
    others = (torch.arange(size) + uniform(ones, size - ones, generator)) % size

    span = config.sequence_frames
    nearest, farthest = config.sequence_min_frames, config.sequence_max_frames
    margin = nearest + span - 1
    zeros = torch.zeros(2 * size)
    anchors = uniform(zeros + margin, zeros + num_frames - 1 - margin, generator)
    return Draws(
        starts=torch.where(is_swapped, starts.flip(0), starts),
        others=others,
        anchors=anchors,
        pasts=uniform((anchors - farthest).clamp(min=0), anchors - margin, generator),
        futures=uniform(
            anchors + nearest,
            (anchors + farthest).clamp(max=num_frames - 1) - span + 1,
            generator,
        ),
    )


def uniform(lowest: Tensor, highest: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform integers from `lowest` to `highest` inclusive, in the shape of `lowest`."""
    # In float64, as a float32 product may round up to the count.
    shares = torch.rand(lowest.shape, generator=generator, dtype=torch.float64)
    return (lowest + (shares * (highest - lowest + 1)).floor()).long()
