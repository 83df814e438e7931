from __future__ import annotations

from auricle.checkpoints.wav2vec2 import convert
from auricle.models.wav2vec2 import Wav2Vec2Config


def test_files_of_hugging_face() -> None:
    payload = {
        "huggingface_config": {
            "model_type": "wav2vec2",
            "hidden_size": 32,
            "num_attention_heads": 4,
        },
        "huggingface_preprocessor": {},
        "huggingface_weights": {},
    }
    config = convert(payload).config
    assert isinstance(config, Wav2Vec2Config)
    assert (config.normalize_eps, config.transformer.hidden_size) == (1e-7, 32)


def test_files_of_fairseq() -> None:
    model = {"_name": "wav2vec2", "encoder_embed_dim": 32, "encoder_attention_heads": 4}
    payload = {"task_cfg": {"_name": "task"}, "model_cfg": model, "model_weight": {}}
    config = convert(payload).config
    assert isinstance(config, Wav2Vec2Config)
    assert (config.normalize_eps, config.transformer.hidden_size) == (1e-5, 32)
