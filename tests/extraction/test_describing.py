from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

import auricle
from auricle.extraction.describing import describe, encoder_sha256
from auricle.extraction.selection import Selection
from auricle.extraction.store.layout import StoreMeta
from auricle.models.base import Encoder


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


def test_the_digest_changes_with_all_that_decides_the_output(
    fresh: Encoder, tmp_path: Path
) -> None:
    digest = encoder_sha256(fresh)
    assert len(digest) == 64
    fresh.save(tmp_path / "copy.safetensors")
    copy = auricle.load(tmp_path / "copy.safetensors")
    assert encoder_sha256(copy) == digest

    with torch.no_grad():
        next(copy.parameters()).view(-1)[3] += 1e-3
    assert encoder_sha256(copy) != digest
    assert encoder_sha256(fresh.to(torch.bfloat16)) != digest


def test_the_digest_changes_with_an_option_that_has_no_weight() -> None:
    encoder = auricle.load("fbank")
    other = auricle.load("fbank", config={"cmvn": True})
    assert encoder_sha256(encoder) == encoder_sha256(auricle.load("fbank"))
    assert encoder_sha256(encoder) != encoder_sha256(other)
    assert msgspec.json.encode(meta_of(encoder, Selection.of(encoder)))
