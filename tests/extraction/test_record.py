from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
import torch

import auricle
from auricle.extraction.record import describe, units_sha256
from auricle.extraction.selection import Selection
from auricle.models.base import Encoder
from auricle.store.layout import StoreMeta
from auricle.units.codebook import Units


@pytest.fixture
def fresh() -> Encoder:
    return auricle.load("vq_apc_mini")


def meta_of(encoder: Encoder, selection: Selection) -> StoreMeta:
    return describe(
        encoder,
        selection,
        model="name",
        store_format="store",
        channel=1,
        short="pad",
        library_version="1.2",
    )


def test_what_is_kept_is_described(fresh: Encoder) -> None:
    meta = meta_of(fresh, Selection.of(fresh, ["rnn_1", "rnn_2"], dtype="float16"))
    assert [(layer.name, layer.dim, layer.hop_samples) for layer in meta.layers] == [
        ("rnn_1", 224, 160),
        ("rnn_2", 224, 160),
    ]
    assert (meta.model, meta.family, meta.format) == ("name", "vq_apc", "store")
    assert (meta.dtype, meta.encoder_dtype, meta.short) == ("float16", "float32", "pad")
    assert (meta.library_version, meta.sample_rate) == ("1.2", 16_000)
    assert meta.channel == 1
    assert meta.checkpoint_sha256 == fresh.info.sha256
    assert meta.licence == fresh.info.licence
    assert not meta.closed


def test_pooled_rows_are_no_frames(fresh: Encoder) -> None:
    selection = Selection.of(fresh, ["rnn_1", "rnn_2"], weights=[1, 2], pool="meanstd")
    meta = meta_of(fresh, selection)
    assert [(layer.name, layer.dim, layer.hop_samples) for layer in meta.layers] == [
        ("weighted_sum", 448, None)
    ]
    assert meta.selection.layers == ("rnn_1", "rnn_2")
    assert meta.selection.weights == (1.0, 2.0)
    assert meta.selection.pool == "meanstd"


def test_codes_are_whole_numbers(fresh: Encoder) -> None:
    meta = meta_of(fresh, Selection.of(fresh, wants_codes=True))
    assert meta.dtype == "int64"
    assert meta.selection.codes
    assert meta.layers[0].name == "codes"


def test_a_record_can_be_written() -> None:
    encoder = auricle.load("fbank")
    meta = meta_of(encoder, Selection.of(encoder))
    assert msgspec.json.decode(msgspec.json.encode(meta), type=StoreMeta) == meta


def make_units(**changes: Any) -> Units:
    generator = torch.Generator().manual_seed(0)
    centroids = torch.randn(1, 5, 224, generator=generator)
    return dataclasses.replace(Units(centroids=centroids, layer="rnn_2"), **changes)


@pytest.mark.parametrize("repeats", [False, True])
def test_units_are_described(fresh: Encoder, repeats: bool) -> None:
    units = make_units()
    meta = meta_of(fresh, Selection.of_units(fresh, units, deduplicate=repeats))
    hop = None if repeats else 160
    names = ["units", "durations"] if repeats else ["units"]
    assert [(one.name, one.dim, one.hop_samples) for one in meta.layers] == [
        (name, 1, hop) for name in names
    ]
    assert meta.dtype == ("int32" if repeats else "int16")
    assert meta.selection.units_sha256 == units_sha256(units)
    assert meta.selection.layers == ("rnn_2",)
    assert meta.selection.deduplicate == repeats


def test_the_digest_of_units_is_of_what_decides_them() -> None:
    units = make_units()
    digest = units_sha256(units)
    assert units_sha256(make_units(model="elsewhere", data="other words", seed=3)) == digest
    moved = units.centroids.clone()
    moved[0, 4, 200] += 1e-3
    mean, scale = torch.zeros(224), torch.ones(224)
    others = (
        make_units(centroids=moved),
        make_units(centroids=units.centroids.view(5, 1, 224)),
        make_units(layer="rnn_1"),
        make_units(final_norm="strip"),
        make_units(normalization="l2"),
        make_units(normalization="standard", mean=mean, scale=scale),
        make_units(normalization="standard", mean=mean, scale=2 * scale),
    )
    assert len({digest, *map(units_sha256, others)}) == len(others) + 1
