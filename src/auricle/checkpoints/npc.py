"""NPC checkpoints (formats `npc-repo` and `npc-weights`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.checkpoints import npc_repo
from auricle.checkpoints.converted import Converted, build_config
from auricle.checkpoints.keymap import KeyMap
from auricle.models.npc import NpcConfig

KEYS = KeyMap(
    (
        ("blocks.{i}.{rest}", "blocks.{i}.{rest}"),
        ("masked_convs.{i}.conv.{rest}", "masked_convs.{i}.conv.{rest}"),
        ("ae_bottleneck.{rest}", "bottleneck.{rest}"),
        *npc_repo.QUANTIZER_KEYS,
    ),
    # The mask follows from the config; files hold it all the same.
    pretraining=("masked_convs.{i}.conv_mask", *npc_repo.PREDICTION_KEYS),
)
OPTIONS = (
    "kernel_size",
    "mask_size",
    "n_blocks",
    "hidden_size",
    "dropout",
    "residual",
    "batch_norm",
    "activate",
    "disable_cross_layer",
    "dim_bottleneck",
    "vq",
)


def convert(payload: Mapping[str, Any]) -> Converted:
    """Config and weights of an NPC checkpoint."""
    audio, _, paras, weights = npc_repo.sections(payload)
    paras.refuse_unknown(OPTIONS)
    config = build_config(
        lambda: NpcConfig(
            features=npc_repo.fbank_config(audio),
            num_blocks=paras.require("n_blocks", int),
            hidden_size=paras.require("hidden_size", int),
            kernel_size=paras.require("kernel_size", int),
            mask_size=paras.require("mask_size", int),
            activation=paras.choice("activate", ("relu", "tanh"), "relu"),
            dropout=paras.get("dropout", float, 0.0),
            residual=paras.require("residual", bool),
            batch_norm=paras.get("batch_norm", bool, True),
            cross_layer=not paras.get("disable_cross_layer", bool, False),
            bottleneck_dim=paras.get("dim_bottleneck", int, 0) or None,
            codebooks=npc_repo.codebooks(paras),
            gumbel_temperature=npc_repo.gumbel_temperature(paras, 1.0),
        )
    )
    return Converted(config, weights, KEYS)
