"""Vector quantisers: by logits (VQ-APC, NPC), by a Gumbel softmax or by k-means (vq-wav2vec)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.info import Window
from auricle.nn.batch import Lengths
from auricle.nn.conv import Linear
from auricle.nn.conv_stack import run_stack
from auricle.nn.cpu.policy import map_chunks
from auricle.nn.layers import ACTIVATIONS, Activation, check_depth
from auricle.nn.norms import UtteranceGroupNorm


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

        def choose(chunk: slice) -> Tensor:
            groups = torch.split(x[:, chunk], self.dims, dim=-1)
            choices = [
                codebook(group).argmax(dim=-1)
                for codebook, group in zip(self.codebooks, groups, strict=True)
            ]
            return torch.stack(choices, dim=-1)

        frame_bytes = x.shape[0] * self.max_entries * x.element_size()
        return map_chunks(choose, x.shape[1], frame_bytes, self.codebooks)


def check_codebook_widths(configs: Sequence[CodebookConfig], dim: int) -> None:
    """Raise ValueError unless the codebooks, if there are any, cover `dim` columns exactly."""
    total = sum(config.dim for config in configs)
    if configs and total != dim:
        raise ValueError(f"the codebooks' dims must add up to {dim}, but add up to {total}")


PROJECTION_FACTOR = 2
"""Width of the inner layers before the logits, as a multiple of the input's (fairseq)."""

INITIAL_VECTOR_STD = 0.01
"""Of the k-means code vectors before training (fairseq)."""


class QuantizerConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """Base of both quantisers' configurations.

    Attributes:
        num_groups: G, how many codes each frame has (`vq_groups`).
        num_entries: V, how many code vectors there are per group (`vq_vars`).
        is_shared: Whether all groups choose among the same vectors (`combine_groups`).
    """

    num_groups: int = 2
    num_entries: int = 320
    is_shared: bool = False

    def __post_init__(self) -> None:
        if self.num_groups < 1 or self.num_entries < 1:
            raise ValueError(
                "a quantiser must have num_groups and num_entries of at least 1, but has "
                f"{self.num_groups} and {self.num_entries}"
            )

    def group_dim(self, dim: int) -> int:
        """Columns of each group; ValueError unless the groups divide `dim` columns evenly."""
        if dim % self.num_groups:
            raise ValueError(
                f"{dim} columns cannot be divided evenly among {self.num_groups} groups of codes"
            )
        return dim // self.num_groups


class GumbelQuantizerConfig(QuantizerConfig, frozen=True, kw_only=True, tag="gumbel"):
    """Configuration of a quantiser that chooses by logits.

    Attributes:
        depth: Linear layers that lead to the logits (`vq_depth`).
        temperature: Of the Gumbel softmax in training: at the start, at the end, and the factor
            from one update to the next (`vq_temp`).
    """

    depth: int = 1
    temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995)

    def __post_init__(self) -> None:
        QuantizerConfig.__post_init__(self)
        check_depth(self.depth)
        if min(self.temperature) <= 0:
            raise ValueError(f"temperatures must be above 0, but are {self.temperature}")


class KmeansQuantizerConfig(QuantizerConfig, frozen=True, kw_only=True, tag="kmeans"):
    """Configuration of a quantiser that chooses the nearest vector.

    Attributes:
        commitment: Weight of the commitment loss in pretraining (`vq_gamma`).
    """

    commitment: float = 0.25


class GumbelQuantizer(nn.Module):
    """The code vector of the largest logit, per group (arXiv:1910.05453, section 3.1).

    Gradients pass to the logits as if the choice were soft: through the Gumbel softmax at
    `temperature` in training, through the plain softmax in evaluation.
    """

    def __init__(self, config: GumbelQuantizerConfig, *, dim: int, activation: Activation) -> None:
        super().__init__()
        self.config = config
        self.temperature = config.temperature[0]
        self.activation = ACTIVATIONS[activation]
        inner_dim = dim * PROJECTION_FACTOR if config.depth > 1 else dim
        self.inner_dim = inner_dim
        widths = [dim, *(inner_dim,) * (config.depth - 1)]
        self.hidden = nn.ModuleList(
            Linear(width, inner_dim) for width in widths[: config.depth - 1]
        )
        self.output = Linear(inner_dim, config.num_groups * config.num_entries)
        num_tables = 1 if config.is_shared else config.num_groups
        self.vectors = nn.Parameter(
            torch.empty(1, num_tables * config.num_entries, config.group_dim(dim))
        )
        nn.init.uniform_(self.vectors)
        if config.depth == 1:
            nn.init.normal_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def anneal(self, num_updates: int) -> None:
        """Set the temperature to what it is after `num_updates` updates of training."""
        start, end, decay = self.config.temperature
        self.temperature = max(start * decay**num_updates, end)

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Code vectors (B, D, T) for the frames `x` (B, D, T); `num_frames` does not matter."""
        tables = self.tables()
        groups = torch.arange(self.config.num_groups, device=x.device)

        def choose(chunk: slice) -> Tensor:
            logits = self._logits(x[:, :, chunk])
            if self.training or (torch.is_grad_enabled() and logits.requires_grad):
                choices = self._choices(logits).to(tables.dtype)
                chosen = torch.einsum("btgv,gvd->btgd", choices, tables)
            else:
                chosen = tables[groups, logits.argmax(dim=-1)]
            return chosen.flatten(2)

        return map_chunks(choose, x.shape[2], self._bytes_per_frame(x), self._parts).transpose(1, 2)

    def indices(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Codes (B, T, G), int64, of the frames `x` (B, D, T); `num_frames` does not matter."""

        def choose(chunk: slice) -> Tensor:
            return self._logits(x[:, :, chunk]).argmax(dim=-1)

        return map_chunks(choose, x.shape[2], self._bytes_per_frame(x), self._parts)

    def tables(self) -> Tensor:
        """Code vectors (G, V, D / G)."""
        tables = self.vectors.view(-1, self.config.num_entries, self.vectors.shape[-1])
        return tables.expand(self.config.num_groups, -1, -1)

    def _bytes_per_frame(self, x: Tensor) -> int:
        num_logits = self.config.num_groups * self.config.num_entries
        return x.shape[0] * max(self.inner_dim, num_logits) * x.element_size()

    @property
    def _parts(self) -> list[nn.Module]:
        """The modules that choose."""
        return [*self.hidden, self.output]

    def _logits(self, x: Tensor) -> Tensor:
        """Logits (B, T, G, V) of the frames `x` (B, D, T)."""
        x = x.transpose(1, 2)
        for layer in self.hidden:
            x = self.activation(layer(x))
        logits: Tensor = self.output(x)
        return logits.reshape(x.shape[0], -1, self.config.num_groups, self.config.num_entries)

    def _choices(self, logits: Tensor) -> Tensor:
        """One-hot choices (B, T, G, V) that have the gradient of soft ones."""
        if self.training:
            noisy: Tensor = F.gumbel_softmax(logits.float(), tau=self.temperature, hard=True)
            return noisy
        soft = logits.float().softmax(dim=-1)
        hard = torch.zeros_like(soft).scatter(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
        return hard + (soft - soft.detach())


class KmeansQuantizer(nn.Module):
    """The code vector nearest to the projected frame, per group (arXiv:1910.05453, section 3.2).

    Gradients pass to the projected frame as if it had not been replaced.
    """

    def __init__(self, config: KmeansQuantizerConfig, *, dim: int) -> None:
        super().__init__()
        self.config = config
        num_groups = config.num_groups
        group_dim = config.group_dim(dim)
        self.projection = nn.Conv1d(dim, dim, 1, groups=num_groups, bias=False)
        self.norm = UtteranceGroupNorm(num_groups=num_groups, dim=dim)
        self.vectors = nn.Parameter(
            torch.empty(config.num_entries, 1 if config.is_shared else num_groups, group_dim)
        )
        nn.init.normal_(self.vectors, std=INITIAL_VECTOR_STD)

    def forward(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Code vectors (B, D, T) for the frames `x` (B, D, T) with `num_frames` valid ones."""
        projected = self._projected(x, num_frames)
        tables = self.tables()
        groups = torch.arange(self.config.num_groups, device=x.device)

        def choose(chunk: slice) -> Tensor:
            part = projected[:, :, chunk]
            chosen = tables[groups, self.nearest(part)].flatten(2)
            if not torch.is_grad_enabled():
                return chosen
            return chosen.detach() + (part - part.detach()).transpose(1, 2)

        return map_chunks(choose, x.shape[2], self._bytes_per_frame(x), ()).transpose(1, 2)

    def indices(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Codes (B, T, G), int64, of the frames `x` (B, D, T) with `num_frames` valid ones."""
        projected = self._projected(x, num_frames)

        def choose(chunk: slice) -> Tensor:
            return self.nearest(projected[:, :, chunk])

        return map_chunks(choose, x.shape[2], self._bytes_per_frame(x), ())

    def _projected(self, x: Tensor, num_frames: Lengths) -> Tensor:
        """Projected frames (B, D, T), to compare with the code vectors, of `x` (B, D, T)."""
        layer = _Projection(self.projection, self.norm, dim=x.shape[1])
        projected, _ = run_stack([layer], x, num_frames)
        return projected

    def _bytes_per_frame(self, x: Tensor) -> int:
        num_distances = self.config.num_groups * self.config.num_entries
        return x.shape[0] * max(num_distances, x.shape[1]) * torch.float64.itemsize

    def tables(self) -> Tensor:
        """Code vectors (G, V, D / G)."""
        return self.vectors.transpose(0, 1).expand(self.config.num_groups, -1, -1)

    @torch.no_grad()
    def nearest(self, projected: Tensor) -> Tensor:
        """Codes (B, T, G) of projected frames (B, D, T)."""
        # |x - v|^2 less |x|^2; in float64 what cancels does not decide the choice.
        tables = self.tables().double()
        frames = projected.double().transpose(1, 2)
        frames = frames.reshape(*frames.shape[:2], self.config.num_groups, -1)
        products = torch.einsum("btgd,gvd->btgv", frames, tables)
        return (tables.square().sum(dim=-1) - 2 * products).argmin(dim=-1)


@dataclasses.dataclass(frozen=True)
class _Projection:
    """A quantiser's convolution over single frames and its norm, as a layer of a stack."""

    conv: nn.Module
    utterance_norm: UtteranceGroupNorm
    dim: int
    window: ClassVar[Window] = Window(size=1)
    has_shortcut: ClassVar[bool] = False

    @property
    def parts(self) -> Sequence[nn.Module]:
        return self.conv, self.utterance_norm

    def convolved(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def shortcut(self, x: Tensor, steps: Lengths, num_frames: int) -> Tensor:
        raise NotImplementedError  # pragma: no cover - there is none

    def finished(self, y: Tensor, shortcut: Tensor | None, num_frames: Lengths) -> Tensor:
        return y
