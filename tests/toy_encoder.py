"""A toy encoder whose layers are the samples, subsampled."""

from __future__ import annotations

from collections.abc import Iterator

from auricle.info import FrameGeometry, LayerInfo, Window
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, frames_of


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

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        for info in self.layer_infos:
            self.computed.append(info.name)
            frames = batch.values[:, :: info.geometry.hop_samples].unsqueeze(2)
            yield info.name, Batch.padded(frames, frames_of(info.geometry, batch.lengths))
