"""Front ends: waveforms to log mel features whose lengths are arithmetic and whose batch is inert.

`FbankConfig` and `fbank` are Kaldi's filterbank (spec F1), `LogMelConfig` and `log_mel` the
level-normalised short-time Fourier transform (spec F2); `extract` takes either configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from auricle.frontends.fbank import FbankConfig, fbank
from auricle.frontends.log_mel import LogMelConfig, log_mel

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FbankConfig", "FrontendConfig", "LogMelConfig", "extract", "fbank", "log_mel"]

FrontendConfig: TypeAlias = FbankConfig | LogMelConfig


def extract(waveforms: Tensor, num_samples: Sequence[int], config: FrontendConfig) -> Tensor:
    """Features of a padded batch by whichever front end `config` describes.

    `waveforms` is (batch, samples) and `num_samples` holds the true lengths; what lies past them is
    ignored. Returns (batch, frames, `config.dim`) in float32 with zeros past each utterance's own
    `config.num_frames(n)` frames. Raises AudioError for an utterance shorter than
    `config.min_samples`.
    """
    import torch

    # Half precision is for networks: a logarithm near its floor has no digits to spare.
    with torch.autocast(waveforms.device.type, enabled=False):
        if isinstance(config, FbankConfig):
            return fbank(waveforms, num_samples, config)
        return log_mel(waveforms, num_samples, config)
