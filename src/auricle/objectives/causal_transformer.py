"""The Transformer layer with which Modified CPC predicts (arXiv:2002.02848, section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalTransformerLayer(nn.Module):
    """Self-attention over the frames so far and a feed-forward part, norms after the residuals.

    Attention knows positions by how far back a frame lies: each query also meets a learnt vector
    per distance, the same in all heads. Distances beyond the last vector share it.
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
        """Output (B, T, D) for the frames `x` (B, T, D)."""
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
        # Scores in the type of the queries, as the fused attention wants its mask.
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
