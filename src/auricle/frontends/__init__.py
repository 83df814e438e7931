"""Front ends: spectral features of waveforms, with frame counts known from their configurations.

`FbankConfig` describes Kaldi's filterbank and `LogMelConfig` log mel, linear and MFCC features of a
centred Fourier transform of level-normalised waveforms; the method `features` computes them.
"""

from __future__ import annotations

from typing import TypeAlias

from auricle.frontends.fbank import FbankConfig
from auricle.frontends.log_mel import LogMelConfig

__all__ = ["FbankConfig", "FrontendConfig", "LogMelConfig"]

FrontendConfig: TypeAlias = FbankConfig | LogMelConfig
