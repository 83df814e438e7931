from __future__ import annotations

from auricle.checkpoints.wavlm import convert
from auricle.models.wavlm import WavLmConfig


def test_files_of_hugging_face() -> None:
    payload = {
        "huggingface_config": {"model_type": "wavlm", "num_buckets": 32},
        "huggingface_preprocessor": {},
        "huggingface_weights": {},
    }
    config = convert(payload).config
    assert isinstance(config, WavLmConfig)
    assert config.transformer.relative_positions is not None
    assert config.transformer.relative_positions.num_buckets == 32
