"""Conformers over spectral frames: w2v-BERT 2.0, Parakeet's FastConformer and BEST-RQ."""

from __future__ import annotations

import abc
from collections.abc import Iterator

from torch import Tensor, nn

from auricle.frontends import FbankConfig, NemoMelConfig, SpeechBrainMelConfig
from auricle.info import FinalNorm, FrameGeometry, LayerInfo
from auricle.models.base import FeatureEncoder
from auricle.models.definition import FeatureConfig
from auricle.nn.batch import Batch, Layout, Lengths, frames_of
from auricle.nn.conformer import Conformer, ConformerConfig
from auricle.nn.conv import Linear
from auricle.nn.cpu.policy import map_chunks, may_pack
from auricle.nn.layers import dropout
from auricle.nn.relative_positions import DistanceConfig
from auricle.nn.subsampling import (
    Reflecting,
    ReflectingConfig,
    Striding,
    StridingConfig,
    Subsampling,
)

_SEAMLESS_FEATURES = FbankConfig(
    window="povey",
    cmvn=True,
    cmvn_epsilon=1e-7,
    epsilon_in_variance=True,
    stack=2,
    sample_scale=float(1 << 15),
    double_precision=True,
)
"""`SeamlessM4TFeatureExtractor` of transformers."""

_CAUSAL = ConformerConfig(is_causal=True, conv_norm="layer")

_FAST = ConformerConfig(
    num_heads=8,
    positions=DistanceConfig(kind="sinusoidal"),
    conv_bias=True,
    kernel_size=9,
    dropout=0.1,
    attention_dropout=0.1,
    activation_dropout=0.1,
)

_SPEECHBRAIN = ConformerConfig(
    hidden_size=576,
    num_layers=12,
    num_heads=8,
    ffn_size=2048,
    activation="gelu",
    layer_norm_eps=1e-6,
    positions=DistanceConfig(kind="sinusoidal", tells_sides=False, scale_width="model"),
    qkv_bias=False,
    conv_bias=True,
    conv_norm="layer",
    final_norm="last",
    dropout=0.1,
    attention_dropout=0.1,
    activation_dropout=0.1,
    layer_drop=0.0,
)


class SpectralConformerConfig(FeatureConfig, frozen=True, kw_only=True):
    """Configuration that these families share.

    Attributes:
        features: The front end.
        conformer: The blocks.
    """

    conformer: ConformerConfig


class SpectralConformer(FeatureEncoder, abc.ABC):
    """Base of the families: features, what makes the blocks' input of them, and the blocks.

    Every frame attends to the whole utterance.
    """

    looks_ahead = True
    config: SpectralConformerConfig
    conformer: Conformer
    subsampling: Subsampling | None

    def __init__(
        self, config: SpectralConformerConfig, subsampling: Subsampling | None = None
    ) -> None:
        super().__init__(config)
        self.subsampling = subsampling

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        geometry = self.config.features.geometry
        if self.subsampling is not None:
            geometry = geometry.then(*self.subsampling.geometry.windows)
        conformer = self.config.conformer
        names = ["input", *(f"layer_{index + 1}" for index in range(conformer.num_layers))]
        return tuple(
            LayerInfo(name=name, dim=conformer.hidden_size, geometry=geometry) for name in names
        )

    @property
    def has_final_norm(self) -> bool:
        return self.config.conformer.final_norm == "last"

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encode_normed(batch, wanted, "keep")

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        features = self.features(batch)
        lengths = features.lengths
        x = self.projected(features.values, lengths)
        if self.subsampling is not None:
            lengths = frames_of(self.subsampling.geometry, lengths)
        layout = Layout(lengths, is_packed=may_pack(x, lengths, self.conformer))
        # A stack in the place of ours need not know of the norm.
        options = {} if final_norm == "keep" else {"final_norm": final_norm}
        states = self.conformer(x, layout, **options)
        del batch, features, x
        yield from self.named_states(states, layout, wanted)

    @abc.abstractmethod
    def projected(self, features: Tensor, lengths: Lengths) -> Tensor:
        """The input of the blocks, padded (B, T, D), of features (B, M, F) of such lengths."""


class W2vBertConfig(SpectralConformerConfig, frozen=True, kw_only=True):
    """Configuration of a w2v-BERT 2.0 encoder.

    Attributes:
        features: The front end (`preprocessor_config.json`).
        projection_dropout: After the projection in training (`feat_proj_dropout`).
        conformer: The blocks.
    """

    features: FbankConfig = _SEAMLESS_FEATURES
    projection_dropout: float = 0.0
    conformer: ConformerConfig = _CAUSAL


class W2vBert(SpectralConformer):
    """w2v-BERT 2.0: a Conformer trained on masked frames, to predict codes and find latents.

    Every frame attends to the whole utterance; convolutions see the past alone.
    """

    family = "w2v_bert"
    config_type = W2vBertConfig
    config: W2vBertConfig

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__(config)
        width = config.features.dim
        self.projection_norm = nn.LayerNorm(width, eps=config.conformer.layer_norm_eps)
        self.projection = Linear(width, config.conformer.hidden_size)
        self.conformer = Conformer(config.conformer)

    def projected(self, features: Tensor, lengths: Lengths) -> Tensor:
        def project(chunk: slice) -> Tensor:
            projected: Tensor = self.projection(self.projection_norm(features[:, chunk]))
            return projected

        width = self.config.conformer.hidden_size
        frame_bytes = 2 * features.shape[0] * width * features.element_size()
        parts = (self.projection_norm, self.projection)
        x = map_chunks(project, features.shape[1], frame_bytes, parts)
        return dropout(x, self.config.projection_dropout, self.training)


class ParakeetConfig(SpectralConformerConfig, frozen=True, kw_only=True):
    """Configuration of a FastConformer encoder.

    Attributes:
        features: The front end (`preprocessor_config.json`; NeMo: `preprocessor`).
        subsampling: The convolutions before the blocks.
        scale_input: Whether the root of the width multiplies their input (`scale_input`;
            NeMo: `xscaling`).
        conformer: The blocks.
    """

    features: NemoMelConfig = NemoMelConfig()
    subsampling: StridingConfig = StridingConfig()
    scale_input: bool = True
    conformer: ConformerConfig = _FAST


class Parakeet(SpectralConformer):
    """FastConformer: 8 frames of the spectrum become one before the blocks.

    The encoder of Parakeet, trained for recognition, and of NEST, trained to predict codes of
    masked frames of random projections.
    """

    family = "parakeet"
    config_type = ParakeetConfig
    config: ParakeetConfig
    subsampling: Striding

    def __init__(self, config: ParakeetConfig) -> None:
        super().__init__(config, Striding(config.subsampling, config.features.dim))
        self.projection = Linear(self.subsampling.dim, config.conformer.hidden_size)
        self.conformer = Conformer(config.conformer)

    def projected(self, features: Tensor, lengths: Lengths) -> Tensor:
        x: Tensor = self.projection(self.subsampling(features, lengths))
        return x * self.config.conformer.hidden_size**0.5 if self.config.scale_input else x


class BestRqConfig(SpectralConformerConfig, frozen=True, kw_only=True):
    """Configuration of a BEST-RQ encoder of SpeechBrain.

    Attributes:
        features: The front end (`compute_features`, `normalize`).
        front: The convolutions before the blocks (`CNN`).
        conformer: The blocks (`Transformer`).
    """

    features: SpeechBrainMelConfig = SpeechBrainMelConfig()
    front: ReflectingConfig = ReflectingConfig()
    conformer: ConformerConfig = _SPEECHBRAIN

    def __post_init__(self) -> None:
        num_bands = self.features.num_mels
        for window in self.front.windows:
            if num_bands <= window.pad_left:
                raise ValueError(
                    f"num_mels must leave more bands than {window.pad_left}, which are mirrored, "
                    f"to each convolution of the front, but {self.features.num_mels} leave "
                    f"{num_bands}"
                )
            num_bands = FrameGeometry((window,)).num_frames(num_bands)


class BestRq(SpectralConformer):
    """BEST-RQ: a Conformer trained to predict codes of masked frames of a random projection."""

    family = "bestrq"
    config_type = BestRqConfig
    config: BestRqConfig
    subsampling: Reflecting

    def __init__(self, config: BestRqConfig) -> None:
        super().__init__(config, Reflecting(config.front, config.features.dim))
        self.projection = Linear(self.subsampling.dim, config.conformer.hidden_size)
        self.conformer = Conformer(config.conformer)

    @property
    def min_samples(self) -> int:
        """A convolution that mirrors frames needs one more of them."""
        geometry, fewest = self.config.features.geometry, super().min_samples
        for window in self.config.front.windows:
            fewest = max(fewest, geometry.min_samples(window.pad_left + 1))
            geometry = geometry.then(window)
        return fewest

    def projected(self, features: Tensor, lengths: Lengths) -> Tensor:
        x: Tensor = self.projection(self.subsampling(features, lengths))
        return x
