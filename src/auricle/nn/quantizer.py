"""Vector quantisers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from auricle.nn.linear import Linear
from auricle.nn.stretches import by_stretches


class CodebookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One codebook of a quantiser.

    Attributes:
        num_entries: V, how many code vectors there are (`vq.codebook_size`).
        dim: Columns of the representation that it quantises (`vq.code_dim`).
    """

    num_entries: int
    dim: int

    def __post_init__(self) -> None:
        if self.num_entries < 1 or self.dim < 1:
            raise ValueError(
                f"a codebook must have num_entries >= 1 and dim >= 1, but has "
                f"{self.num_entries} and {self.dim}"
            )


class LogitCodebook(nn.Module):
    """A codebook chosen by the largest of V learnt logits (VQ-APC, arXiv:2005.08392, eq. 2)."""

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.logits = Linear(config.dim, config.num_entries)
        self.vectors = Linear(config.num_entries, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, T, V) of the columns `x` (B, T, dim)."""
        logits: Tensor = self.logits(x)
        return logits


class LogitQuantizer(nn.Module):
    """Codebooks side by side, each over its own columns (VQ-APC, NPC)."""

    def __init__(self, configs: Sequence[CodebookConfig]) -> None:
        super().__init__()
        self.dims = [config.dim for config in configs]
        self.max_entries = max((config.num_entries for config in configs), default=0)
        self.codebooks = nn.ModuleList(LogitCodebook(config) for config in configs)

    def indices(self, x: Tensor) -> Tensor:
        """Codes (B, T, K), int64, of `x` (B, T, D): per codebook the entry of largest logit."""

        def choose(stretch: slice) -> Tensor:
            groups = torch.split(x[:, stretch], self.dims, dim=-1)
            choices = [
                codebook(group).argmax(dim=-1)
                for codebook, group in zip(self.codebooks, groups, strict=True)
            ]
            return torch.stack(choices, dim=-1)

        frame_bytes = x.shape[0] * self.max_entries * x.element_size()
        return by_stretches(choose, x.shape[1], frame_bytes, self.codebooks)


def check_codebook_widths(configs: Sequence[CodebookConfig], dim: int) -> None:
    """Raise ValueError unless the codebooks, if there are any, cover `dim` columns exactly."""
    total = sum(config.dim for config in configs)
    if configs and total != dim:
        raise ValueError(f"the codebooks' dims must add up to {dim}, but add up to {total}")
