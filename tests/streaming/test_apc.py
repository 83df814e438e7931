from __future__ import annotations

from auricle.streaming.apc import steps
from golden_cases import shared_encoder


def test_steps_are_the_front_end_and_the_layers() -> None:
    encoder = shared_encoder("apc")
    (features, *layers) = steps(encoder)  # type: ignore[arg-type]
    assert features.norm is not None
    assert [step.name for step in layers] == list(encoder.info.layers)
    assert all(step.norm is None for step in layers)
