"""VQ-APC checkpoints (formats `npc-repo` and `npc-weights`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import npc_repo
from auricle.checkpoints.converted import Converted, build_config
from auricle.checkpoints.keymap import KeyMap
from auricle.models.vq_apc import VqApcConfig

KEYS = KeyMap(
    (*npc_repo.RECURRENT_KEYS, *npc_repo.QUANTIZER_KEYS), pretraining=npc_repo.PREDICTION_KEYS
)


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of a VQ-APC checkpoint."""
    audio, model, paras, weights = npc_repo.sections(payload)
    paras.refuse_unknown(("num_layers", "hidden_size", "dropout", "residual", "vq"))
    config = build_config(
        lambda: VqApcConfig(
            features=npc_repo.fbank_config(audio),
            num_layers=paras.require("num_layers", int),
            hidden_size=paras.require("hidden_size", int),
            dropout=paras.get("dropout", float, 0.0),
            residual=paras.require("residual", bool),
            codebooks=npc_repo.codebooks(paras),
            gumbel_temperature=npc_repo.gumbel_temperature(paras, 0.5),
            num_future=model.get("n_future", int, 5),
        )
    )
    return Converted(config, weights, KEYS)
