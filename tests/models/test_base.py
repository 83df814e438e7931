"""What the contract suite cannot say of a good encoder: what happens around a call."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import torch

from auricle.errors import AuricleError, LayerError
from auricle.models.apc import ApcConfig
from auricle.models.base import Config, Encoder
from auricle.nn.batch import Batch, frames_of
from auricle.outputs import FrameGeometry, LayerInfo, Provenance, Window


class Halves(Encoder):
    """Yields the samples, then every second one; counts what was computed."""

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


def test_a_layer_is_computed_only_as_deep_as_asked() -> None:
    encoder = Halves()
    encoder([torch.ones(8)], layer="whole")
    assert encoder.computed == ["whole"]
    encoder.computed.clear()
    encoder([torch.ones(8)])
    assert encoder.computed == ["whole", "half"]


def test_layers_of_other_rates_come_by_name() -> None:
    (output,) = Halves()([torch.arange(5.0)], layer="all")
    assert {name: layer.flatten().tolist() for name, layer in output.items()} == {
        "whole": [0, 1, 2, 3, 4],
        "half": [0, 2, 4],
        "quarter": [0, 4],
    }


def test_outputs_keep_the_order_and_lengths_of_the_input() -> None:
    outputs = Halves()([torch.full((size,), float(size)) for size in (3, 9, 1, 4)])
    assert [output.flatten().tolist() for output in outputs] == [[3] * 2, [9] * 5, [1], [4] * 2]


def test_a_layer_is_told_by_index_name_and_default() -> None:
    encoder = Halves()
    asked: dict[str, list[int | str | None]] = {
        "whole": [0, -3, "whole"],
        "half": [1, -2, "half", None],
        "quarter": [2, -1, "quarter"],
    }
    for name, keys in asked.items():
        assert {encoder.layer_info(key).name for key in keys} == {name}
    with pytest.raises(LayerError, match="no layer 3: expected an index from -3 to 2 or one of"):
        encoder.layer_info(3)


def test_times_are_seconds_of_each_layer_s_own_frames() -> None:
    times = Halves().frame_times(5, "quarter") * 16_000
    assert times.tolist() == [[0, 1], [4, 5]]


def test_info_takes_the_name_from_the_provenance() -> None:
    encoder = Halves()
    assert encoder.info.name == "apc"
    encoder.provenance = Provenance(name="mine", licence="CC0")
    assert (encoder.info.name, encoder.info.licence) == ("mine", "CC0")
    assert encoder.device == torch.device("cpu")


def test_lengths_are_whole_numbers() -> None:
    encoder = Halves()
    assert encoder.num_frames(torch.tensor([0, 5])).tolist() == [0, 3]
    for wrong in (1.5, torch.tensor(1.5)):
        with pytest.raises(AuricleError, match="num_samples must be"):
            encoder.num_frames(wrong)  # type: ignore[type-var]


def test_a_bare_waveform_is_not_a_list() -> None:
    with pytest.raises(ValueError, match="list"):
        Halves()(torch.ones(8))  # type: ignore[arg-type]


def test_a_configuration_is_a_dict_to_other_libraries() -> None:
    config = ApcConfig(num_layers=2)
    assert config.to_dict()["num_layers"] == 2
    assert msgspec.convert(config.to_dict(), ApcConfig) == config
