"""wav2vec checkpoints (formats `fairseq-args`, `fairseq-cfg`, `s3prl-converted`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import fairseq
from auricle.checkpoints.conv_encoder import ENCODER_KEYS, PREDICTION_KEYS, encoder_fields
from auricle.checkpoints.converted import Converted, build_config
from auricle.checkpoints.keymap import KeyMap
from auricle.models.wav2vec import Wav2VecConfig

KEYS = KeyMap(ENCODER_KEYS, PREDICTION_KEYS)


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a wav2vec checkpoint.

    Raises:
        CheckpointError: An option or a weight section is missing or not what it should be.
    """
    task, model, weights = fairseq.sections(payload)
    model.demand("vq_type", "none", "a model with a quantiser is of the family vq_wav2vec")
    config = build_config(lambda: Wav2VecConfig(**encoder_fields(payload, task, model)))
    return Converted(config, weights, KEYS)
