from __future__ import annotations

from auricle.checkpoints.data2vec import convert
from auricle.models.data2vec import Data2VecConfig


def test_files_of_hugging_face() -> None:
    payload = {
        "huggingface_config": {
            "model_type": "data2vec-audio",
            "hidden_size": 32,
            "num_attention_heads": 4,
        },
        "huggingface_preprocessor": {},
        "huggingface_weights": {},
    }
    config = convert(payload).config
    assert isinstance(config, Data2VecConfig)
    assert (config.normalize_eps, config.transformer.hidden_size) == (1e-7, 32)


def test_files_of_fairseq() -> None:
    model = {"_name": "data2vec", "encoder_embed_dim": 32, "encoder_attention_heads": 4}
    payload = {"task_cfg": {"_name": "task"}, "model_cfg": model, "model_weight": {}}
    config = convert(payload).config
    assert isinstance(config, Data2VecConfig)
    assert (config.normalize_eps, config.transformer.hidden_size) == (1e-5, 32)
