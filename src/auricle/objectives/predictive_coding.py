"""Predictive coding: L1 prediction of frames (APC, VQ-APC, NPC), InfoNCE over future ones (CPC).

Papers: APC arXiv:1904.03240, VQ-APC 2005.08392, NPC 2011.00406; CPC 1807.03748, Modified CPC
2002.02848.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import FrameGeometry
from auricle.models.npc import Npc
from auricle.models.predictive_coding import WINDOWS, Apc, Cpc, VqApc
from auricle.nn.batch import Batch, as_ints
from auricle.nn.layers import dropout
from auricle.objectives.base import (
    LogitQuantizerObjectiveConfig,
    Loss,
    Objective,
    ObjectiveConfig,
    masked_mean,
    quantize,
    quantizer_metrics,
    valid_frames,
)
from auricle.objectives.contrastive import (
    accuracy,
    at_predicted_frames,
    contrast,
    draw_negatives,
    info_nce,
)


def future_l1(predicted: Tensor, features: Tensor, num_frames: Sequence[int], ahead: int) -> Tensor:
    """Mean absolute error of frames predicted `ahead` frames earlier (APC, eq. 1).

    Args:
        predicted: (B, T, D), at frame t the prediction of frame t + `ahead`.
        features: (B, T, D), the target frames.
        num_frames: Valid frames of each utterance; only these are predicted.
        ahead: Distance in frames.
    """
    target = features[:, ahead:]
    counts = [count - ahead for count in num_frames]
    is_valid = valid_frames(counts, target.shape[1], features.device)
    return masked_mean((predicted[:, : target.shape[1]] - target).abs(), is_valid.unsqueeze(2))


class ApcObjectiveConfig(ObjectiveConfig, frozen=True, kw_only=True):
    """Options of APC's objective; the prediction distance is the encoder's `num_future`."""


class ApcObjective(Objective):
    """APC's objective: L1 prediction of the frame `num_future` ahead from the last GRU layer."""

    config_type = ApcObjectiveConfig
    encoder: Apc

    def __init__(self, encoder: Apc, config: ApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # At least one frame must be predicted.
        geometry = self.encoder.config.features.geometry
        return geometry.min_samples(self.encoder.config.num_future + 2)

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        config = self.encoder.config
        batch = self.encoder.features(Batch.padded(waveforms, num_samples))
        features, num_frames = batch.values, as_ints(batch.lengths)
        *_, context = self.encoder.rnn(features)
        return Loss(value=future_l1(self.head(context), features, num_frames, config.num_future))


class QuantizedPrediction(Objective):
    """L1 prediction of frames from code vectors, or from the context itself without codebooks.

    Codes are chosen by Gumbel softmax with straight-through gradients in training, and without
    noise in evaluation.
    """

    config: LogitQuantizerObjectiveConfig
    encoder: VqApc | Npc
    head: nn.Linear

    @property
    def num_ahead(self) -> int:
        """Distance in frames of the predicted frame."""
        return 0

    @abc.abstractmethod
    def context(self, features: Batch) -> Tensor:
        """Output (B, T, H) of the encoder, for features (B, T, D), that the quantiser reads."""

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Sequence[int],
        *,
        step: int,
        generator: torch.Generator,
    ) -> Loss:
        config = self.encoder.config
        batch = self.encoder.features(Batch.padded(waveforms, num_samples))
        features, num_frames = batch.values, as_ints(batch.lengths)
        context = self.context(batch)
        metrics = {}
        if config.codebooks:
            temperature = self.config.temperature(step, config.gumbel_temperature)
            context, choices = quantize(
                self.encoder.quantizer,
                context,
                temperature=temperature,
                generator=generator if self.training else None,
            )
            metrics = quantizer_metrics(choices, num_frames, temperature)
        loss = future_l1(self.head(context), features, num_frames, self.num_ahead)
        return Loss(value=loss, metrics=metrics)


class VqApcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of VQ-APC's objective; the prediction distance is the encoder's `num_future`."""


class VqApcObjective(QuantizedPrediction):
    """VQ-APC's objective: L1 prediction of the frame `num_future` ahead from code vectors."""

    config_type = VqApcObjectiveConfig
    config: VqApcObjectiveConfig
    encoder: VqApc

    def __init__(self, encoder: VqApc, config: VqApcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        self.head = nn.Linear(encoder.config.hidden_size, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # At least one frame must be predicted, and CMVN may need two.
        geometry = self.encoder.config.features.geometry
        num_frames = self.encoder.config.num_future + 1
        return max(geometry.min_samples(num_frames), self.encoder.min_samples)

    @property
    def num_ahead(self) -> int:
        return self.encoder.config.num_future

    def context(self, features: Batch) -> Tensor:
        layers: list[Tensor] = [*self.encoder.rnn(features.values)]
        return layers[-1]


class NpcObjectiveConfig(LogitQuantizerObjectiveConfig, frozen=True, kw_only=True):
    """Options of NPC's objective; the masked context is the encoder's."""


class NpcObjective(QuantizedPrediction):
    """NPC's objective: L1 prediction of each frame from code vectors (or the bottleneck)."""

    config_type = NpcObjectiveConfig
    config: NpcObjectiveConfig
    encoder: Npc

    def __init__(self, encoder: Npc, config: NpcObjectiveConfig) -> None:
        super().__init__(encoder, config)
        width = encoder.config.bottleneck_dim or encoder.config.hidden_size
        self.head = nn.Linear(width, encoder.config.features.dim)

    @property
    def min_samples(self) -> int:
        # Batch norm needs two frames in a batch of one utterance.
        geometry = self.encoder.config.features.geometry
        return max(geometry.min_samples(2), self.encoder.min_samples)

    def context(self, features: Batch) -> Tensor:
        """Output (B, T, D) of the encoder's last layer, `masked_sum` or the bottleneck."""
        last = self.encoder.layer_infos[-1].name
        *_, (_, context) = self.encoder.encode_features(features, frozenset({last}))
        return context.values


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
        inner = dropout(self.ffn_in(x).relu(), self.dropout, self.training)
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
        probability = self.config.prediction_dropout
        return [dropout(head(context), probability, self.training) for head in self.heads]


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
