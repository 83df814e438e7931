"""Relative positions as a bias of attention scores (WavLM, arXiv:2110.13900, section III-A)."""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec
import torch
from torch import Tensor, nn


class RelativePositionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the bias.

    Attributes:
        num_buckets: Entries of the table, half for each direction (`num_buckets`; 320).
        max_distance: Distance in frames from which on all share a bucket
            (`max_bucket_distance`; 800).
    """

    num_buckets: int = 320
    max_distance: int = 800

    def __post_init__(self) -> None:
        # Half of a direction's buckets hold one distance each, and the rest grow to the maximum.
        if self.num_buckets < 4 or self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                "num_buckets must be at least 4 and max_distance more than a quarter of it, but "
                f"they are {self.num_buckets} and {self.max_distance}"
            )


@lru_cache(maxsize=8)
def _offset_buckets(reach: int, config: RelativePositionConfig) -> Tensor:
    """Buckets (2 reach + 1,), int64, of the offsets key - query from -reach to reach."""
    with torch.inference_mode(False):
        offsets = torch.arange(-reach, reach + 1, device="cpu")
        per_direction = config.num_buckets // 2
        num_exact = per_direction // 2
        distances = offsets.abs()
        # In float32, as the reference computes it: its rounding decides on the borders.
        growth = torch.log(distances.clamp(min=1).float() / num_exact)
        growth = growth / math.log(config.max_distance / num_exact) * (per_direction - num_exact)
        far = (num_exact + growth).long().clamp(max=per_direction - 1)
        return (offsets > 0) * per_direction + torch.where(distances < num_exact, distances, far)


class RelativePositionBias(nn.Module):
    """A learnt bias per head for each bucket of distances between key and query."""

    def __init__(self, config: RelativePositionConfig, *, num_heads: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.num_buckets, num_heads)

    def forward(self, num_frames: int) -> Tensor:
        """Bias (H, T, T), queries before keys, the last query first.

        It is a view of what there is for each offset, and takes no memory of its own.
        """
        # Tables of a few sizes serve every length.
        reach = (1 << max(num_frames - 1, 1).bit_length()) - 1
        buckets = _offset_buckets(reach, self.config)
        device = next((one.device for one in self.parameters()), buckets.device)
        buckets = buckets[reach - num_frames + 1 : reach + num_frames].to(device)
        by_offset: Tensor = self.table(buckets).t()
        # The last query sees the offsets from -(T - 1) to 0, each one before it one more.
        return by_offset.unfold(1, num_frames, 1)
