"""Whisper's encoder (arXiv:2212.04356): a Transformer over log mel frames of 30 s of audio.

The authors' code appends zeros to every waveform up to 30 s and masks nothing: frames attend to the
silence. What it computes of a waveform alone, cut to the frames that begin within the waveform, is
the representation. All frames of the 30 s are computed, except in the deepest layer, where those of
the silence are only attended to.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auricle.frontends.log_mel import WHISPER_GEOMETRY, whisper_log_mel
from auricle.info import FinalNorm, LayerInfo, Window
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, Layout, frames_of
from auricle.nn.conv import Conv1d
from auricle.nn.cpu.policy import is_hooked, may_bypass
from auricle.nn.cpu.prepack import Prepacking
from auricle.nn.layers import WaveformActivation, check_depth, dropout, is_left_out, normed_states
from auricle.nn.transformer import TransformerLayer

FRAMES = WHISPER_GEOMETRY.then(
    Window(size=3, pad_left=1, pad_right=1), Window(size=3, stride=2, pad_left=1, pad_right=1)
)
"""Frames of the two convolutions: one for each 320 samples, and one for the rest."""

LONGEST_TIMESCALE = 10_000.0

SILENT_FRAMES = 4
"""Frames after an utterance's own of which the first half may still see it. The last sees the end
of the 30 s; those between are equal until positions are added."""


class WhisperConfig(Config, frozen=True, kw_only=True):
    """Configuration of a Whisper encoder; in brackets OpenAI's names and those of transformers.

    Attributes:
        num_mels: Bands of the features (`n_mels`; `num_mel_bins`).
        max_frames: Frames of 20 ms of the padded audio (`n_audio_ctx`; `max_source_positions`).
        hidden_size: Width (`n_audio_state`; `d_model`).
        num_layers: Layers (`n_audio_layer`; `encoder_layers`).
        num_heads: Attention heads (`n_audio_head`; `encoder_attention_heads`).
        ffn_size: Width of the feed-forward part (4 `n_audio_state`; `encoder_ffn_dim`).
        activation: Of the feed-forward part (GELU; `activation_function`).
        dropout: Of both residual branches and of the input in training (`dropout`).
        attention_dropout: Of attention weights in training (`attention_dropout`).
        activation_dropout: Inside the feed-forward part in training (`activation_dropout`).
        layer_drop: Probability of leaving out a layer in training (`encoder_layerdrop`).
    """

    num_mels: int = 80
    max_frames: int = 1500
    hidden_size: int = 512
    num_layers: int = 6
    num_heads: int = 8
    ffn_size: int = 2048
    activation: WaveformActivation = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layer_drop: float = 0.0

    def __post_init__(self) -> None:
        check_depth(self.num_layers)
        for name in ("num_mels", "hidden_size", "num_heads", "ffn_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if self.max_frames <= SILENT_FRAMES:
            raise ValueError(f"max_frames must be more than 4, but is {self.max_frames}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads ({self.num_heads}), but is "
                f"{self.hidden_size}"
            )


def sinusoids(num_frames: int, width: int) -> Tensor:
    """Sines of all timescales, from 1 to 10,000, and then their cosines: (num_frames, width)."""
    num_timescales = (width + 1) // 2
    scales = torch.arange(num_timescales, device="cpu") / max(num_timescales - 1, 1)
    frames = torch.arange(num_frames, device="cpu")
    angles = frames.unsqueeze(1) * LONGEST_TIMESCALE**-scales
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


class Whisper(Encoder):
    """Whisper's encoder, trained for recognition and translation with labels from the web.

    Positions are weights, which begin as sinusoids and are read from files: fine-tuning changes
    them, as the authors' code does not, unless `encoder.positions.requires_grad_(False)`.
    """

    family = "whisper"
    config_type = WhisperConfig
    looks_ahead = True
    uses_utterance_statistics = True
    has_final_norm = True
    config: WhisperConfig

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.conv1 = Conv1d(config.num_mels, width, 3, padding=1)
        self.conv2 = Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty(config.max_frames, width))
        if not self.positions.is_meta:
            self.positions.data = sinusoids(config.max_frames, width)
        self.blocks = nn.ModuleList(
            TransformerLayer(
                width,
                num_heads=config.num_heads,
                ffn_size=config.ffn_size,
                activation=config.activation,
                pre_layer_norm=True,
                layer_norm_eps=1e-5,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation_dropout=config.activation_dropout,
                has_key_bias=False,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        for part in self.modules():
            if isinstance(part, Prepacking):
                # Frames of 30 s are so many that packed weights gain 1 %, for twice the memory.
                part.keeps_packed = False

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        config = self.config
        names = ["input", *(f"layer_{index + 1}" for index in range(config.num_layers))]
        return tuple(
            LayerInfo(name=name, dim=config.hidden_size, geometry=FRAMES) for name in names
        )

    @property
    def fixed_samples(self) -> int:
        return self.config.max_frames * FRAMES.hop_samples

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        return self.encode_normed(batch, wanted, "keep")

    def encode_normed(
        self, batch: Batch, wanted: frozenset[str], final_norm: FinalNorm
    ) -> Iterator[tuple[str, Batch]]:
        config, names = self.config, [info.name for info in self.layer_infos]
        is_normed = normed_states(final_norm, config.num_layers)
        num_own = FRAMES.num_frames(batch.values.shape[1])
        own = frames_of(FRAMES, batch.lengths)
        deepest = max([0, *[index for index, name in enumerate(names) if name in wanted]])
        x = dropout(self._embedded(batch.values, num_own), config.dropout, self.training)
        for index, name in enumerate(names):
            if index:
                layer = self.blocks[index - 1]
                # Nothing attends to the frames of the deepest layer.
                queries = (None, num_own) if index == deepest and not is_hooked(layer) else ()
                if not (self.training and is_left_out(layer, config.layer_drop)):
                    # Silence is no padding: every row is as long as the batch.
                    x = layer(x, Layout([x.shape[1]]), *queries)
            if name in wanted:
                output = self.norm(x) if is_normed[index] else x
                # A copy of the own frames, which does not keep the others in memory.
                yield name, Batch.padded(F.pad(output, (0, 0, 0, num_own - output.shape[1])), own)

    def _embedded(self, waveforms: Tensor, num_own: int) -> Tensor:
        """The first layer's input (B, max_frames, D) of waveforms (B, S) of `num_own` frames."""
        config, hop = self.config, FRAMES.hop_samples
        num_computed = config.max_frames
        if may_bypass(self.conv1, self.conv2):
            num_computed = min(num_own + SILENT_FRAMES, num_computed)
        waveforms = F.pad(waveforms, (0, num_computed * hop - waveforms.shape[1]))
        x = whisper_log_mel(waveforms, config.num_mels).to(self.dtype).transpose(1, 2)
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2)
        if num_computed < config.max_frames:
            silence = x[:, -2:-1].expand(-1, config.max_frames - num_computed, -1)
            x = torch.cat([x[:, :-1], silence, x[:, -1:]], dim=1)
        return x + self.positions
