"""Transformers that learn from their own outputs: data2vec 2.0, DinoSR, SpidR and Spin."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import nn

from auricle.info import LayerInfo
from auricle.models.waveform_transformer import (
    WaveformTransformerConfig,
    WaveformTransformerEncoder,
)
from auricle.nn.attention import AlibiConfig
from auricle.nn.batch import Batch
from auricle.nn.conv import Linear
from auricle.nn.conv_positions import ConvPositionConfig
from auricle.nn.transformer import TransformerConfig
from auricle.nn.waveform_extractor import ExtractorConfig

_STACK = ConvPositionConfig(kind="stack", kernel_size=19, depth=5)
_DATA2VEC2 = TransformerConfig(positions=_STACK, alibi=AlibiConfig())
_DINOSR = TransformerConfig(positions=_STACK)
_SPIDR = TransformerConfig(positions=_STACK, qkv_bias=False, layer_drop=0.0)


class Data2Vec2Config(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a data2vec 2.0 audio encoder."""

    normalize: bool = True
    extractor: ExtractorConfig = ExtractorConfig(norm="layer")
    transformer: TransformerConfig = _DATA2VEC2


class Data2Vec2(WaveformTransformerEncoder):
    """data2vec 2.0 audio: data2vec with biases of distance, trained on clones with other masks."""

    family = "data2vec2"
    config_type = Data2Vec2Config
    config: Data2Vec2Config

    def __init__(self, config: Data2Vec2Config) -> None:
        super().__init__(config)
        if config.projection_norm:  # whose constant is torch's, whatever the Transformer's is
            self.projection_norm = nn.LayerNorm(config.extractor.dim)


class UnitTransformerConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of an encoder with heads, one for each codebook.

    Attributes:
        num_codebooks: Heads, at most as many as layers (SpidR: `num_codebooks`; fairseq:
            `average_top_k_layers`); 0 for an encoder without codes.
        codebook_size: Entries that a head tells apart (`codebook_size`).
    """

    normalize: bool = True
    extractor: ExtractorConfig = ExtractorConfig(norm="layer")
    transformer: TransformerConfig = _DINOSR
    num_codebooks: int = 8
    codebook_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        num_layers = self.transformer.num_layers
        if not 0 <= self.num_codebooks <= num_layers or self.codebook_size < 1:
            raise ValueError(
                f"num_codebooks must be 0 to {num_layers}, the number of layers, and "
                f"codebook_size at least 1, but they are {self.num_codebooks} and "
                f"{self.codebook_size}"
            )


class UnitTransformerEncoder(WaveformTransformerEncoder):
    """A Transformer of which the feed-forward outputs are layers too, `ffn_1` before `layer_1`.

    They are taken before residual and norm, as the teachers of these models see them
    (arXiv:2305.10005, section 3.2).
    """

    no_codes_reason = "has no heads in its checkpoint"
    config: UnitTransformerConfig

    def __init__(self, config: UnitTransformerConfig) -> None:
        super().__init__(config)
        width = config.transformer.hidden_size
        self.heads = nn.ModuleList(
            Linear(width, config.codebook_size) for _ in range(config.num_codebooks)
        )

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        first, *others = self._stack_infos()
        infos = [first]
        for ffn, layer in zip(self._ffn_names, others, strict=True):
            for name in (ffn, layer.name):
                num_codebooks = len(self._heads_of(name))
                infos.append(dataclasses.replace(layer, name=name, num_codebooks=num_codebooks))
        return tuple(infos)

    @property
    def taps(self) -> tuple[LayerInfo, ...]:
        return ()  # what they give are layers

    @property
    def _ffn_names(self) -> list[str]:
        return [f"ffn_{index + 1}" for index in range(self.config.transformer.num_layers)]

    def _heads_of(self, name: str) -> range:
        """Heads that read a layer."""
        raise NotImplementedError  # pragma: no cover - both families define it

    def layer_codes(self, name: str, frames: Batch) -> Batch:
        heads = [self.heads[index] for index in self._heads_of(name)]
        codes = [head(frames.values).argmax(dim=-1) for head in heads]
        return Batch(torch.stack(codes, dim=-1), frames.layout)


class DinoSrConfig(UnitTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a DinoSR encoder."""


class DinoSr(UnitTransformerEncoder):
    """DinoSR: self-distillation on clusters of the teacher; all heads read the last layer."""

    family = "dinosr"
    config_type = DinoSrConfig
    config: DinoSrConfig

    def _heads_of(self, name: str) -> range:
        is_last = name == f"layer_{self.config.transformer.num_layers}"
        return range(self.config.num_codebooks if is_last else 0)


class SpidRConfig(UnitTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a SpidR encoder."""

    transformer: TransformerConfig = _SPIDR


class SpidR(UnitTransformerEncoder):
    """SpidR: DinoSR whose head of each of the last layers reads that layer's feed-forward output.

    (arXiv:2512.20308, section 3.)
    """

    family = "spidr"
    config_type = SpidRConfig
    config: SpidRConfig

    def _heads_of(self, name: str) -> range:
        num_heads = self.config.num_codebooks
        names = self._ffn_names[len(self._ffn_names) - num_heads :]
        first = names.index(name) if name in names else num_heads
        return range(first, min(first + 1, num_heads))


class SpinConfig(WaveformTransformerConfig, frozen=True, kw_only=True):
    """Configuration of a Spin encoder, a HuBERT or WavLM with a head.

    Attributes:
        units_layer: Layer that the head reads, counted from 1 (`use_layer`).
        head_sizes: Widths of the head's linear layers, with ReLU between them
            (`pred_head.hid_dims`).
        codebook_size: Entries (`loss.num_vars`).
    """

    projection_dropout: float = 0.1
    units_layer: int = 12
    head_sizes: tuple[int, ...] = (256,)
    codebook_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        num_layers = self.transformer.num_layers
        if not 1 <= self.units_layer <= num_layers:
            raise ValueError(f"units_layer must be 1 to {num_layers}, but is {self.units_layer}")
        if not self.head_sizes or min(*self.head_sizes, self.codebook_size) < 1:
            raise ValueError(
                "head_sizes must be one width or more, and codebook_size and they at least 1, but "
                f"they are {self.head_sizes} and {self.codebook_size}"
            )


class Spin(WaveformTransformerEncoder):
    """Spin and R-Spin: speaker-invariant clustering of a HuBERT or WavLM (arXiv:2305.11072).

    A frame's code is the entry that is nearest to the head's output in angle.
    """

    family = "spin"
    config_type = SpinConfig
    config: SpinConfig

    def __init__(self, config: SpinConfig) -> None:
        super().__init__(config)
        widths = (config.transformer.hidden_size, *config.head_sizes)
        self.heads = nn.ModuleList(Linear(*pair) for pair in itertools.pairwise(widths))
        self.codebook = Linear(widths[-1], config.codebook_size, bias=False)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        infos = list(self._stack_infos())
        place = self.config.units_layer
        infos[place] = dataclasses.replace(infos[place], num_codebooks=1)
        return tuple(infos)

    def code_indices(self, frames: Batch) -> Batch:
        x = self.heads[0](frames.values)
        for head in self.heads[1:]:
            x = head(x.relu())
        # The authors' norm of `x` changes no order; that of the entries is in the file.
        return Batch(self.codebook(x).argmax(dim=-1, keepdim=True), frames.layout)
