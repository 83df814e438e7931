"""Options of torchaudio's Kaldi-compliant fbank, as configurations name them."""

from __future__ import annotations

from typing import Any

from auricle.checkpoints.options import Options

RENAMED: dict[str, tuple[str, type]] = {
    "num_mel_bins": ("num_mels", int),
    "frame_length": ("frame_length_ms", float),
    "frame_shift": ("frame_shift_ms", float),
    "window_type": ("window", str),
    "blackman_coeff": ("blackman_coeff", float),
    "preemphasis_coefficient": ("preemphasis", float),
    "remove_dc_offset": ("remove_dc_offset", bool),
    "round_to_power_of_two": ("round_to_power_of_two", bool),
    "use_power": ("use_power", bool),
    "low_freq": ("low_hz", float),
    "high_freq": ("high_hz", float),
    "use_log_fbank": ("use_log", bool),
    "subtract_mean": ("subtract_mean", bool),
    "sample_frequency": ("sample_rate", int),
}
"""torchaudio's name -> our field and its type."""

FIXED: dict[str, tuple[object, str]] = {
    "dither": (0.0, "noise makes a representation random"),
    "snip_edges": (True, "frames over the edges are not implemented"),
    "use_energy": (False, "an energy column is not implemented"),
    "vtln_warp": (1.0, "vocal tract length normalisation is not implemented"),
    "min_duration": (0.0, "utterances are never dropped"),
    "sample_frequency": (16_000, "the encoders of these families read 16 kHz"),
}
"""Options that have one supported value, and why."""

WITHOUT_EFFECT = (
    "channel",  # waveforms are mono
    "energy_floor",  # the three below act on the energy column alone
    "raw_energy",
    "htk_compat",
    "vtln_low",  # without warping these two bound nothing
    "vtln_high",
)


def fbank_fields(options: Options) -> dict[str, Any]:
    """Fields of `FbankConfig` from options under torchaudio's names.

    Raises:
        CheckpointError: An option is not known, or asks for what is not implemented.
    """
    options.refuse_unknown((*RENAMED, *FIXED, *WITHOUT_EFFECT))
    for name, (expected, reason) in FIXED.items():
        options.demand(name, expected, reason)
    return {
        field: options.require(name, kind)
        for name, (field, kind) in RENAMED.items()
        if name in options
    }
