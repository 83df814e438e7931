from __future__ import annotations

from auricle.streaming.wav2vec import steps
from golden_cases import shared_encoder


def test_steps_end_with_the_layers_by_name() -> None:
    encoder = shared_encoder("wav2vec")
    names = [step.name for step in steps(encoder)]  # type: ignore[arg-type]
    assert names[-len(encoder.info.layers) :] == list(encoder.info.layers)
    assert all(step.norm is not None for step in steps(encoder) if step.name != "waveform")  # type: ignore[arg-type]
