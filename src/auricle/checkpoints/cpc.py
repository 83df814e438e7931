"""CPC checkpoints (format `cpc-audio`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints.converted import Converted, build_config, state_dict
from auricle.checkpoints.keymap import KeyMap
from auricle.checkpoints.options import Options
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.models.cpc import CpcConfig, Norm, Recurrence

KEYS = KeyMap(
    (
        ("gEncoder.conv{i}.{rest}", "blocks.{i}.conv.{rest}"),
        ("gEncoder.batchNorm{i}.{rest}", "blocks.{i}.norm.{rest}"),
        ("gAR.baseNet.{rest}", "rnn.{rest}"),
    ),
    # The criterion: linear or recurrent predictors of the frames to come, speaker embeddings.
    pretraining=(
        "{name}Criterion.{rest}",
        "criterion.{rest}",
        "wPrediction.{rest}",
        "speakerEmb.{rest}",
    ),
)

NORMS: dict[str, Norm] = {
    "layerNorm": "layer",
    "batchNorm": "batch",
    "instanceNorm": "instance",
    "ID": "none",
}
RECURRENCES: dict[str, Recurrence] = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a CPC checkpoint; absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant with another encoder or another context network.
    """
    options = Options(as_mapping(payload["config"]), "config")
    options.demand("encoder_type", "cpc", "only the convolutional encoder is implemented")
    if options.get("cpc_mode", str, "none") != "normal":  # what an older docstring calls "none"
        options.demand(
            "cpc_mode", "none", "reversed and masked (bert) variants are not implemented"
        )
    norm = options.choice("normMode", tuple(NORMS), "layerNorm")
    recurrence = options.choice("arMode", tuple(RECURRENCES), "LSTM")
    config = build_config(
        lambda: CpcConfig(
            encoder_dim=options.get("hiddenEncoder", int, 256),
            context_dim=options.get("hiddenGar", int, 256),
            norm=NORMS[norm],
            recurrence=RECURRENCES[recurrence],
            num_recurrent_layers=options.get("nLevelsGRU", int, 1),
        )
    )
    return Converted(config, state_dict(payload["weights"], "weights"), KEYS)
