"""A toy encoder whose layers are the samples, subsampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from auricle.geometry import FrameGeometry, Window
from auricle.info import LayerInfo
from auricle.models.base import Encoder
from auricle.models.definition import Config


class Halves(Encoder):
    """Yields all samples, every second and every fourth one; lists the layers it computed."""

    family = "apc"
    config_type = Config

    def __init__(self) -> None:
        super().__init__(Config())
        self.computed: list[str] = []

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        return tuple(
            LayerInfo(name=name, dim=1, geometry=FrameGeometry((Window(size=1, stride=stride),)))
            for name, stride in (("whole", 1), ("half", 2), ("quarter", 4))
        )

    @property
    def default_layer(self) -> str:
        return "half"

    def encode(
        self, waveforms: Tensor, num_samples: Sequence[int], wanted: frozenset[str]
    ) -> Iterator[tuple[str, Tensor]]:
        for info in self.layer_infos:
            self.computed.append(info.name)
            yield info.name, waveforms[:, :: info.geometry.hop_samples].unsqueeze(2)
