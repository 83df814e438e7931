"""CPC (arXiv:1807.03748) and Modified CPC (arXiv:2002.02848): InfoNCE over future frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.geometry import FrameGeometry
from auricle.models.cpc import WINDOWS, Cpc
from auricle.nn.batch import Batch
from auricle.objectives.base import Loss, Objective, ObjectiveConfig
from auricle.objectives.contrastive import (
    accuracy,
    at_predicted_frames,
    contrast,
    draw_negatives,
    info_nce,
)


class CausalTransformerLayer(nn.Module):
    """Causal self-attention and feed-forward layer with post-norm (arXiv:2002.02848, section 3.1).

    Attention has relative positions: each query is also multiplied with a learnt vector per
    distance, shared by the heads. Distances beyond the last vector share it.
    """

    def __init__(
        self, dim: int, *, num_heads: int, ffn_dim: int, num_distances: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.distances = nn.Parameter(torch.empty(num_distances, dim // num_heads))
        bound = (dim // num_heads) ** -0.5
        nn.init.uniform_(self.distances, -bound, bound)
        self.attention_norm = nn.LayerNorm(dim)
        self.ffn_in = nn.Linear(dim, ffn_dim)
        self.ffn_out = nn.Linear(ffn_dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, T, D) for frames `x` (B, T, D)."""
        x = self.attention_norm(x + self._attention(x))
        inner = F.dropout(self.ffn_in(x).relu(), self.dropout, self.training)
        output: Tensor = self.ffn_norm(x + self.ffn_out(inner))
        return output

    def _attention(self, x: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scale = 1 / math.sqrt(query.shape[-1])
        positions = torch.arange(x.shape[1], device=x.device)
        back = positions.unsqueeze(1) - positions
        by_distance = (query @ self.distances.T) * scale
        index = back.clamp(0, len(self.distances) - 1).expand(*by_distance.shape[:2], -1, -1)
        # Fused attention requires a mask in the dtype of the queries.
        bias = by_distance.gather(3, index).masked_fill(back < 0, -torch.inf).to(query.dtype)
        context = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            scale=scale,
        )
        output: Tensor = self.out(context.transpose(1, 2).flatten(2))
        return output


class CpcObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of CPC's objective; the defaults are Modified CPC's (CPC_audio).

    Attributes:
        num_steps: K, the number of future frames predicted (`nPredicts`; 12 in both papers).
        num_negatives: Negatives per predicted frame (`negativeSamplingExt`).
        across_batch: Whether negatives come from the whole batch, or only from the utterance of the
            predicted frame (`samplingType`: the former, with batches of one speaker).
        head: Predictor of each step: a causal Transformer layer over the contexts (`rnnMode`
            `transformer`), or a matrix (arXiv:1807.03748, section 2.2).
        is_mean_score: Whether a score is the mean of the products over channels, or their sum, as
            in the first paper (eq. 3).
        num_heads: Attention heads of a Transformer head.
        ffn_dim: Width of its feed-forward part.
        num_distances: Number of relative positions of its attention (`sizeWindow` of 20,480 samples
            is 128 frames, less the 12 predicted ones).
        head_dropout: Dropout inside a Transformer head.
        prediction_dropout: Dropout of the predictions (0.5 with `dropout`, as the published
            checkpoint has it).
        zero_conv_biases: Whether to initialise the biases of the encoder's convolutions to 0.
            Torch's default biases exceed a waveform of usual level; with a norm over channels, as
            in Modified CPC, all frames are then nearly equal at first, and a short training does
            not recover.
    """

    num_steps: int = 12
    num_negatives: int = 128
    across_batch: bool = True
    head: Literal["transformer", "linear"] = "transformer"
    is_mean_score: bool = True
    num_heads: int = 8
    ffn_dim: int = 2048
    num_distances: int = 116
    head_dropout: float = 0.1
    prediction_dropout: float = 0.0
    zero_conv_biases: bool = False

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in ("num_steps", "num_negatives", "num_heads", "ffn_dim", "num_distances")
        }
        if min(counts.values()) < 1:
            raise ValueError(f"counts and widths must be at least 1, but are {counts}")


class CpcObjective(Objective):
    """InfoNCE of future encoder frames, predicted from each context by one head per step.

    A frame is a context if its next `num_steps` frames are valid.
    """

    config_type = CpcObjectiveConfig
    config: CpcObjectiveConfig
    encoder: Cpc

    def __init__(self, encoder: Cpc, config: CpcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        if config.zero_conv_biases:
            for part in encoder.modules():
                if isinstance(part, nn.Conv1d) and part.bias is not None:
                    nn.init.zeros_(part.bias)
        self.heads = nn.ModuleList(self._head() for _ in range(config.num_steps))

    def _head(self) -> nn.Module:
        config = self.config
        input_dim, dim = self.encoder.config.context_dim, self.encoder.config.encoder_dim
        if config.head == "linear":
            return nn.Linear(input_dim, dim, bias=False)
        if dim % config.num_heads:
            raise ValueError(
                f"the encoder's encoder_dim must be a multiple of num_heads ({config.num_heads}), "
                f"but is {dim}"
            )
        layer = CausalTransformerLayer(
            dim,
            num_heads=config.num_heads,
            ffn_dim=config.ffn_dim,
            num_distances=config.num_distances,
            dropout=config.head_dropout,
        )
        # The layer preserves the width of its input.
        if input_dim == dim:
            return layer
        return nn.Sequential(nn.Linear(input_dim, dim, bias=False), layer)

    @property
    def min_samples(self) -> int:
        # One context, and all frames that it predicts.
        geometry = FrameGeometry(WINDOWS)
        return max(geometry.min_samples(self.config.num_steps + 1), self.encoder.min_samples)

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        config = self.config
        num_frames = [FrameGeometry(WINDOWS).num_frames(count) for count in num_samples]
        batch = Batch.padded(waveforms[:, : max(num_samples)], num_samples)
        (_, encoded), (_, context) = self.encoder.encode(batch, frozenset({"encoder", "context"}))
        frames = encoded.values
        steps = range(1, config.num_steps + 1)
        predictions = at_predicted_frames(self.predictions(context.values), steps)
        if config.is_mean_score:
            predictions = predictions / predictions.shape[-1]
        negatives = draw_negatives(
            num_frames,
            config.num_negatives,
            across_batch=config.across_batch,
            generator=generator,
        )
        scores = contrast(predictions, frames, negatives)
        is_predicted = _is_predicted(num_frames, config.num_steps).to(scores.device)
        metrics = {
            "accuracy": accuracy(scores, is_predicted),
            "accuracy_first_step": accuracy(scores[:, :, 0], is_predicted[:, :, 0]),
        }
        return Loss(value=info_nce(scores, is_predicted), metrics=metrics)

    def predictions(self, context: Tensor) -> list[Tensor]:
        """Predictions (B, T, D) of each step from the contexts (B, T, C)."""
        dropout = self.config.prediction_dropout
        return [F.dropout(head(context), dropout, self.training) for head in self.heads]


def _is_predicted(num_frames: Sequence[int], num_steps: int) -> Tensor:
    """Boolean mask (B, T, K), True where every frame predicted by the context of k is valid."""
    contexts = torch.arange(max(num_frames)).unsqueeze(1) - torch.arange(1, num_steps + 1)
    num_contexts = torch.tensor(num_frames).view(-1, 1, 1) - num_steps
    return (contexts >= 0) & (contexts < num_contexts)


PRESETS = {
    "cpc": CpcObjectiveConfig(head="linear", is_mean_score=False),
    "modified_cpc": CpcObjectiveConfig(prediction_dropout=0.5),
}
"""Options of the first paper and of the published checkpoint of Modified CPC."""
