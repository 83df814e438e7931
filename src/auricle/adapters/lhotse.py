"""Encoders as feature extractors of Lhotse: `EncoderFeatures`, registered there as `auricle`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from auricle.errors import AuricleError
from auricle.hub.load import load
from auricle.info import SAMPLE_RATE
from auricle.models.outputs import fitted
from auricle.optional import optional

with optional("lhotse", "auricle.adapters.lhotse"):
    from lhotse.features.base import FeatureExtractor, register_extractor
    from lhotse.utils import compute_num_frames_from_samples

Row: TypeAlias = "np.ndarray[Any, Any] | Tensor"


@dataclasses.dataclass
class EncoderFeaturesConfig:
    """The encoder of an extractor; `to_yaml` of the extractor writes it.

    Attributes:
        model: Name, path or URL of an encoder, as `auricle.load` takes it.
        layer: Index or name of the layer; None for the default one.
        device: Device of the encoder, as `auricle.load` takes it.
        pad_short: Whether waveforms shorter than the encoder takes are padded with zeros.
    """

    model: str = "tera_mini"
    layer: int | str | None = None
    device: str = "cpu"
    pad_short: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EncoderFeaturesConfig:
        """The inverse of `to_dict`."""
        return cls(**data)


@register_extractor
class EncoderFeatures(FeatureExtractor):  # type: ignore[misc]  # lhotse ships no types
    """One layer of an encoder as features, exact in any batch, to Lhotse's rule of lengths.

    Lhotse asks for `round(duration / frame_shift)` frames (`lhotse.utils.compute_num_frames`),
    encoders give those whose windows the waveform fills. The difference is made up at the end: the
    last frame is repeated, 3 times at most (fbank: 2, wav2vec 2.0: 1), or one frame is cut (log
    mel). All others are the encoder's own. This is of waveforms at 16 kHz of at least
    `encoder.min_samples`; what is resampled may need one more.

    Attributes:
        encoder: The encoder, in eval mode.
    """

    name = "auricle"
    config_type = EncoderFeaturesConfig

    def __init__(self, config: EncoderFeaturesConfig | None = None) -> None:
        """Load the encoder.

        Raises:
            AuricleError: As of `auricle.load`; the encoder has no such layer.
        """
        super().__init__(config)
        self.encoder = load(self.config.model, device=self.config.device)
        self._info = self.encoder.layer_info(self.config.layer)

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next: the hop of the layer."""
        return self._info.geometry.hop_samples / SAMPLE_RATE

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return self.encoder.device

    def feature_dim(self, sampling_rate: int) -> int:
        """D of the layer, which is the same at any rate."""
        del sampling_rate
        return self._info.dim

    def extract(self, samples: Row, sampling_rate: int) -> np.ndarray[Any, Any]:
        """Features (T, D) of one waveform (S,) or (1, S), at any rate.

        Raises:
            AudioError: As in a call of the encoder.
        """
        return self._features([samples], sampling_rate)[0].numpy()

    def extract_batch(
        self,
        samples: Row | Sequence[Row],
        sampling_rate: int,
        lengths: Sequence[int] | Tensor | None = None,
    ) -> Any:
        """Features of several waveforms at once, each as if it were alone.

        Args:
            samples: List of waveforms (S,) or (1, S), or a padded array or tensor (B, S).
            sampling_rate: Hz of all of them.
            lengths: Samples of each row of a padded batch; None if there is no padding.

        Returns:
            As of Lhotse's own extractors, in arrays, or in tensors if tensors were given: a list of
            features (T, D), or if they are equally long (B, T, D); (T, D) for an array of one row.

        Raises:
            AudioError: As in a call of the encoder.
        """
        is_one = lengths is None and isinstance(samples, np.ndarray | Tensor)
        is_row = isinstance(samples, np.ndarray | Tensor) and samples.ndim == 1
        rows: list[Any] = [samples] if is_row else [*samples]
        if lengths is not None:
            if len(lengths) != len(rows):
                raise AuricleError(f"got {len(rows)} waveforms, but {len(lengths)} lengths")
            for row, n in zip(rows, lengths, strict=True):
                if not 0 < int(n) <= row.shape[-1]:
                    raise AuricleError(f"a length is {int(n)}, but its row has {row.shape[-1]}")
            rows = [row[..., : int(n)] for row, n in zip(rows, lengths, strict=True)]
        features: list[Any] = self._features(rows, sampling_rate)
        is_torch = any(isinstance(row, Tensor) for row in rows)
        if not is_torch:
            features = [row.numpy() for row in features]
        if len(features) == 1:
            return features[0] if is_one else features
        if len({len(row) for row in features}) != 1:
            return features
        return torch.stack(features) if is_torch else np.stack(features)

    def _features(self, rows: Sequence[Row], sampling_rate: int) -> list[Tensor]:
        wavs = [row[0] if row.ndim == 2 and len(row) == 1 else row for row in rows]
        with torch.no_grad():  # heads may be trained on them: no inference mode
            outputs = self.encoder(
                [(wav, sampling_rate) for wav in wavs],
                layer=self._info.name,
                pad_short=self.config.pad_short,
            )
        return [
            fitted(
                output.cpu(),
                compute_num_frames_from_samples(len(wav), self.frame_shift, sampling_rate),
            )
            for output, wav in zip(outputs, wavs, strict=True)
        ]
