"""vq-wav2vec: contrastive prediction of future code vectors (arXiv:1910.05453)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.models.wav2vec import VqWav2Vec
from auricle.nn.batch import Batch, as_ints
from auricle.nn.quantizer import GumbelQuantizer, KmeansQuantizer
from auricle.objectives.base import (
    Loss,
    gumbel_noise,
    masked_mean,
    quantizer_metrics,
    straight_through_choice,
    valid_frames,
)
from auricle.objectives.contrastive import FutureContrastConfig, FutureContrastObjective


class VqWav2VecObjectiveConfig(FutureContrastConfig, frozen=True, kw_only=True):
    """Options of vq-wav2vec's objective; temperature and commitment belong to the quantiser.

    Attributes:
        num_steps: As in wav2vec, but 8 (arXiv:1910.05453, section 4).
        diversity_weight: Weight of the share of unused entries, from the perplexity of the mean
            softmax, for the Gumbel quantiser (0 in the paper; wav2vec 2.0 has 0.1).
        codebook_weight: Weight of the codebook and commitment losses, for the k-means quantiser
            (1; arXiv:1910.05453, eq. 3).
        restart_every: Number of updates between random restarts of unused entries of the k-means
            quantiser, starting with the first update: entries that no frame of the batch has chosen
            are replaced by random frames of the batch (arXiv:2005.00341, section 3.1). None for no
            restarts, as in the paper.
    """

    num_steps: int = 8
    diversity_weight: float = 0.0
    codebook_weight: float = 1.0
    restart_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart_every is not None and self.restart_every < 1:
            raise ValueError(
                f"restart_every must be at least 1 or None, but is {self.restart_every}"
            )


class VqWav2VecObjective(FutureContrastObjective):
    """One affine layer per step predicts future code vectors from contexts of code vectors."""

    config_type = VqWav2VecObjectiveConfig
    config: VqWav2VecObjectiveConfig
    encoder: VqWav2Vec

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        z, lengths = self.encoder.frames(
            Batch.padded(waveforms[:, : max(num_samples)], num_samples)
        )
        num_frames = as_ints(lengths)
        quantizer = self.encoder.quantizer
        if isinstance(quantizer, GumbelQuantizer):
            quantizer.anneal(step)
            noise_source = generator if self.training else None
            vectors, quantized = gumbel_vectors(quantizer, z, num_frames, noise_source)
            weight = self.config.diversity_weight
        else:
            every = self.config.restart_every
            if self.training and every is not None and step % every == 0:
                restart_unused(quantizer, z, num_frames, generator)
            vectors, quantized = kmeans_vectors(quantizer, z, num_frames)
            weight = self.config.codebook_weight
        contrast = self.future_contrast(vectors, num_frames, generator)
        metrics = {"contrastive_loss": contrast.value.detach()}
        return Loss(
            value=contrast.value + weight * quantized.value,
            metrics=metrics | contrast.metrics | quantized.metrics,
        )


def gumbel_vectors(
    quantizer: GumbelQuantizer,
    z: Tensor,
    num_frames: Sequence[int],
    generator: torch.Generator | None,
) -> tuple[Tensor, Loss]:
    """Code vectors by Gumbel softmax with straight-through gradients (section 3.1).

    Args:
        quantizer: The quantiser, annealed to the temperature of the update.
        z: (B, D, T), frames.
        num_frames: Valid frames of each utterance.
        generator: Source of the Gumbel noise; None for no noise, as in evaluation.

    Returns:
        Code vectors (B, D, T), and the diversity loss: the share of entries that the mean softmax
        over the batch leaves unused, from its perplexity (wav2vec 2.0, arXiv:2006.11477, eq. 4, in
        the form of fairseq).
    """
    config = quantizer.config
    x = z.transpose(1, 2)
    for layer in quantizer.hidden:
        x = quantizer.activation(layer(x))
    logits = quantizer.output(x).float().unflatten(-1, (config.num_groups, config.num_entries))
    noise = None if generator is None else gumbel_noise(logits.shape, generator, logits.device)
    choice = straight_through_choice(logits, temperature=quantizer.temperature, noise=noise)
    tables = quantizer.vectors.view(-1, config.num_entries, quantizer.vectors.shape[-1])
    tables = tables.expand(config.num_groups, -1, -1)
    vectors = torch.einsum("btgv,gvd->btgd", choice.to(tables.dtype), tables)

    is_valid = valid_frames(num_frames, max(num_frames), logits.device)
    means = (logits.softmax(dim=-1) * is_valid[..., None, None]).sum(dim=(0, 1)) / is_valid.sum()
    perplexities = torch.special.entr(means).sum(dim=-1).exp()
    diversity = 1 - perplexities.mean() / config.num_entries
    metrics = quantizer_metrics(choice.unbind(dim=2), num_frames, quantizer.temperature)
    metrics["softmax_perplexity"] = perplexities.mean().detach()
    return vectors.flatten(2).transpose(1, 2), Loss(value=diversity, metrics=metrics)


def kmeans_vectors(
    quantizer: KmeansQuantizer, z: Tensor, num_frames: Sequence[int]
) -> tuple[Tensor, Loss]:
    """Code vectors nearest to the projected frames, with straight-through gradients (section 3.2).

    Args:
        quantizer: The quantiser.
        z: (B, D, T), frames.
        num_frames: Valid frames of each utterance.

    Returns:
        Code vectors (B, D, T), and the sum of the codebook loss and of the commitment loss weighted
        by the quantiser's `commitment`, both mean squares over valid frames.
    """
    config = quantizer.config
    projected = quantizer.norm(quantizer.projection(z), num_frames)
    with torch.no_grad():
        codes = quantizer.indices(z, num_frames)
    tables = quantizer.vectors.transpose(0, 1).expand(config.num_groups, -1, -1)
    groups = torch.arange(config.num_groups, device=z.device)
    chosen = tables[groups, codes].flatten(2).transpose(1, 2)
    vectors = chosen.detach() + (projected - projected.detach())

    is_valid = valid_frames(num_frames, max(num_frames), z.device).unsqueeze(1)
    frames = projected.float()
    codebook = masked_mean((chosen.float() - frames.detach()).square(), is_valid)
    commitment = masked_mean((frames - chosen.detach().float()).square(), is_valid)
    choices = F.one_hot(codes, config.num_entries).float().unbind(dim=2)
    metrics = {
        "code_perplexity": quantizer_metrics(choices, num_frames, 1.0)["code_perplexity"],
        "codebook_loss": codebook.detach(),
    }
    return vectors, Loss(value=codebook + config.commitment * commitment, metrics=metrics)


@torch.no_grad()
def restart_unused(
    quantizer: KmeansQuantizer,
    z: Tensor,
    num_frames: Sequence[int],
    generator: torch.Generator,
) -> None:
    """Replace entries that no frame of the batch has chosen by random frames, in place.

    With several processes all use the replacements of the first one.

    Args:
        quantizer: The quantiser; an entry of a shared table is unused if no group chose it.
        z: (B, D, T), frames.
        num_frames: Valid frames of each utterance.
        generator: Source of the draws.
    """
    config = quantizer.config
    num_entries, num_tables, group_dim = quantizer.vectors.shape
    projected = quantizer.norm(quantizer.projection(z), num_frames).transpose(1, 2)
    is_valid = valid_frames(num_frames, max(num_frames), z.device)
    codes = quantizer.indices(z, num_frames)[is_valid].T.reshape(num_tables, -1)
    frames = projected[is_valid].unflatten(1, (config.num_groups, group_dim)).transpose(0, 1)
    frames = frames.reshape(num_tables, -1, group_dim)
    for table in range(num_tables):
        is_used = codes[table].bincount(minlength=num_entries) > 0
        drawn = torch.randint(frames.shape[1], (num_entries,), generator=generator)
        fresh = frames[table, drawn.to(z.device)].to(quantizer.vectors.dtype)
        kept = quantizer.vectors[:, table]
        quantizer.vectors[:, table] = torch.where(is_used.unsqueeze(1), kept, fresh)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(quantizer.vectors, src=0)
