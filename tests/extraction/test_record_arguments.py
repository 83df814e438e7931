from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AuricleError, LayerError
from auricle.extraction.record import check_units, model_of
from auricle.units.codebook import Units


def make_units(**facts: Any) -> Units:
    generator = torch.Generator().manual_seed(0)
    return Units(
        centroids=torch.randn(1, 5, 224, generator=generator), **{"layer": "rnn_2", **facts}
    )


def test_the_model_is_that_of_the_units() -> None:
    assert model_of(None, None) == (DEFAULT_MODEL, None)
    assert model_of(make_units(model="tera", checkpoint="a.ckpt"), None) == ("tera", "a.ckpt")
    assert model_of(make_units(model="tera", checkpoint="a.ckpt"), "b.ckpt") == ("tera", "b.ckpt")
    with pytest.raises(AuricleError, match=r"units of rnn_2 name no model.*--model"):
        model_of(make_units(), None)


def test_another_layer_or_norm_is_refused() -> None:
    encoder = auricle.load("apc_mini")
    check_units(encoder, make_units(), None, None)
    check_units(encoder, make_units(), ["rnn_2"], "keep")
    index = [info.name for info in encoder.layer_infos].index("rnn_2")
    check_units(encoder, make_units(), [index], None)
    for layers in (["rnn_1"], ["rnn_2", "rnn_1"], "all"):
        with pytest.raises(AuricleError, match="units are of rnn_2, but layers= .*rnn_1"):
            check_units(encoder, make_units(), layers, None)
    with pytest.raises(LayerError, match="rnn_9"):
        check_units(encoder, make_units(), ["rnn_9"], None)
    with pytest.raises(AuricleError, match="final_norm='strip', but .* is 'keep'"):
        check_units(encoder, make_units(final_norm="strip"), None, "keep")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0]}, "frame by frame"),
        ({"pool": "mean"}, "frame by frame"),
        ({"codes": True}, "frame by frame"),
        ({"dtype": "float16"}, "units are integers, but dtype= .* is float16"),
        ({"units": None, "deduplicate": True}, "are for units: pass units="),
        ({"units": None, "check_weights": False}, "are for units: pass units="),
        ({"deduplicate": 1}, "deduplicate must be False or True"),
    ],
)
def test_options_that_do_not_go_with_units_are_refused_before_any_work(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    given = {"units": make_units(model="apc_mini"), **options}
    with pytest.raises(AuricleError, match=message):
        auricle.extract(tmp_path / "nothing", tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
