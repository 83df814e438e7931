"""Calls of an encoder, beside what the contract suite checks of every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import auricle
from auricle.errors import AudioError, LayerError
from auricle.models import outputs
from auricle.models.predictive_coding import ApcConfig
from auricle.nn.batch import Batch, as_ints
from auricle.nn.cpu.policy import reference_kernels
from toy_encoder import Halves


def test_a_layer_is_computed_only_as_deep_as_asked() -> None:
    encoder = Halves()
    encoder([torch.ones(8)], layer="whole")
    assert encoder.computed == ["whole"]
    encoder.computed.clear()
    encoder([torch.ones(8)])
    assert encoder.computed == ["whole", "half"]


def test_layers_of_other_rates_come_by_name() -> None:
    (output,) = Halves().layers([torch.arange(5.0)])
    assert {name: layer.flatten().tolist() for name, layer in output.items()} == {
        "whole": [0, 1, 2, 3, 4],
        "half": [0, 2, 4],
        "quarter": [0, 4],
    }


def test_layers_come_by_name_in_the_order_of_the_names() -> None:
    encoder = Halves()
    (output,) = encoder.layers([torch.arange(5.0)], [-1, "whole", 2])
    assert list(output) == ["quarter", "whole"]
    assert encoder.layers([torch.arange(5.0)], []) == [{}]
    assert encoder.layers([]) == []
    for alike in (np.array([-1, 0]), [np.int64(-1), "whole"], {"quarter": 1, "whole": 2}.keys()):
        (output,) = encoder.layers([torch.arange(5.0)], alike)  # type: ignore[arg-type]
        assert list(output) == ["quarter", "whole"]
    for wrong in ("whole", 0, None, {"whole"}, 1.5):
        with pytest.raises(LayerError, match="names must be 'all' or a list of layers"):
            encoder.layers([torch.arange(5.0)], wrong)  # type: ignore[arg-type]
    with pytest.raises(LayerError, match="one of them is None"):
        encoder.layers([torch.arange(5.0)], [None])  # type: ignore[list-item]


def test_the_deprecated_spelling_of_several_layers() -> None:
    wavs = [torch.arange(5.0), torch.arange(3.0)]
    encoder = Halves()
    for names in ("all", ["half", 0]):
        with pytest.warns(DeprecationWarning, match=r"encoder\.layers\(wavs, names\)") as warned:
            outputs = encoder(wavs, layer=names)  # type: ignore[arg-type]
        assert warned[0].filename == __file__
        for output, expected in zip(outputs, encoder.layers(wavs, names), strict=True):
            assert isinstance(output, dict)
            assert list(output) == list(expected)
            assert all(map(torch.equal, output.values(), expected.values()))
    alike = auricle.build(ApcConfig(num_layers=2, hidden_size=4))
    wav = torch.randn(4_000)
    with pytest.warns(DeprecationWarning, match=r"encoder\.layers"):
        (output,) = alike([wav], "all")
    assert torch.equal(output, torch.stack([*alike.layers([wav])[0].values()]))


def test_the_deprecated_spelling_of_pad_short() -> None:
    encoder = auricle.load("fbank")
    with pytest.warns(DeprecationWarning, match="pass pad_short=True") as warned:
        (output,) = encoder([torch.zeros(10)], short="pad")  # type: ignore[call-arg]
    assert warned[0].filename == __file__
    assert torch.equal(output, encoder([torch.zeros(10)], pad_short=True)[0])
    with pytest.raises(AudioError, match="pad_short is 'error': pass True .* or False"):
        encoder([torch.zeros(10)], pad_short="error")  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="got pad_short=True and short='error'"):
        encoder([torch.zeros(10)], pad_short=True, short="error")  # type: ignore[call-arg]


def test_a_long_list_is_encoded_in_batches_of_like_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = auricle.load("fbank")
    batches: list[list[int]] = []
    encode = type(encoder).encode

    def record(self: Any, batch: Batch, wanted: frozenset[str]) -> Any:
        batches.append(as_ints(batch.lengths))
        return encode(self, batch, wanted)

    monkeypatch.setattr(type(encoder), "encode", record)
    monkeypatch.setattr(outputs, "MAX_PADDED_SECONDS", 1.0)
    generator = torch.Generator().manual_seed(0)
    lengths = [int(n) for n in torch.randint(400, 9_000, (40,), generator=generator)] + [20_000]
    wavs = [0.1 * torch.randn(length, generator=generator) for length in lengths]
    with torch.inference_mode(), reference_kernels():
        encoded = encoder(wavs)
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    assert all(len(batch) * max(batch) <= 16_000 for batch in batches[1:])
    assert batches[0] == [20_000]  # longer than the limit, so alone
    assert [max(batch) for batch in batches] == sorted(map(max, batches), reverse=True)
    for wav, output in zip(wavs, encoded, strict=True):
        assert torch.equal(output, encoder([wav])[0])

    batches.clear()
    with torch.inference_mode(), reference_kernels():
        encoder(wavs[:2])  # one batch, in the order of the list
        encoder.train()(wavs)  # in training a batch stays one
    assert batches == [lengths[:2], lengths]


def test_outputs_keep_the_order_and_lengths_of_the_input() -> None:
    outputs = Halves()([torch.full((size,), float(size)) for size in (3, 9, 1, 4)])
    assert [output.flatten().tolist() for output in outputs] == [[3] * 2, [9] * 5, [1], [4] * 2]


def test_a_bare_waveform_is_not_a_list() -> None:
    with pytest.raises(ValueError, match="list"):
        Halves()(torch.ones(8))  # type: ignore[arg-type]
