"""Front ends: spectral features of waveforms, with frame counts known from their configurations.

`FbankConfig` describes Kaldi's filterbank, `LogMelConfig` log mel, linear and MFCC features of a
centred Fourier transform of level-normalised waveforms, `NemoMelConfig` and `SpeechBrainMelConfig`
those of the toolkits; the method `features` computes them.
"""

from __future__ import annotations

from typing import TypeAlias

from auricle.frontends.fbank import FbankConfig
from auricle.frontends.log_mel import LogMelConfig
from auricle.frontends.toolkit_mel import NemoMelConfig, SpeechBrainMelConfig

__all__ = [
    "FbankConfig",
    "FrontendConfig",
    "LogMelConfig",
    "NemoMelConfig",
    "SpeechBrainMelConfig",
]

FrontendConfig: TypeAlias = FbankConfig | LogMelConfig | NemoMelConfig | SpeechBrainMelConfig
