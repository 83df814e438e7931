"""APC: autoregressive predictive coding (arXiv:1904.03240)."""

from __future__ import annotations

from auricle.models.gru_encoder import GruConfig, GruEncoder


class ApcConfig(GruConfig, frozen=True, kw_only=True):
    """Configuration of an APC encoder."""


class Apc(GruEncoder):
    """APC: GRU layers that were trained to predict a frame `num_future` ahead."""

    family = "apc"
    config_type = ApcConfig
    config: ApcConfig
