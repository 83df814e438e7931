"""Entry points of the hub: their names, options and what their upstreams return."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import auricle
from auricle.catalogue.search import s3prl_names
from auricle.errors import AuricleError
from auricle.models.base import Encoder
from auricle.s3prl import hub
from golden_cases import GoldenCase

WAVS = [
    0.1 * torch.randn(size, generator=torch.Generator().manual_seed(size))
    for size in (8_000, 5_000)
]


def test_the_names_are_those_of_s3prl_that_are_here_and_our_own() -> None:
    names = hub.options()
    theirs = s3prl_names()
    expected = {*theirs.models} - {*hub.OTHER_BASELINES}
    expected.update(*theirs.checkpoints.values(), hub.BASELINES, hub.REPOSITORIES, ["apc_mini"])
    assert expected <= {*names}
    assert names == sorted(set(names))
    published = hub.options(only_registered_ckpt=True)
    assert {*published} < {*names}
    assert not any(name.endswith(hub.CHECKPOINT_SUFFIXES) for name in published)
    assert {*names} <= {*dir(hub)}
    assert all(callable(getattr(hub, name)) for name in names)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("decoar2", "of the family DeCoAR 2.0, is not here"),
        ("mfcc", r"Kaldi's, with CMVN.*auricle.load\('mfcc'\)"),
        ("apc_960", "close matches: apc_960hr"),
        ("_private", "_private"),
    ],
)
def test_other_names_are_no_attributes(name: str, reason: str) -> None:
    with pytest.raises(AttributeError, match=reason):
        getattr(hub, name)
    assert not hasattr(hub, name)


def test_an_upstream_returns_a_dict() -> None:
    upstream = hub.apc_mini(legacy=True)
    states = upstream(WAVS)
    encoder = auricle.load("apc_mini", device="cpu")
    assert states["_hidden_states_info"] == encoder.info.layers
    for index, name in enumerate(encoder.info.layers):
        state = states["hidden_states"][index]
        assert states[f"hidden_state_{index}"] is state
        for row, output in zip(state, encoder(WAVS, layer=name), strict=True):
            assert torch.equal(row[: len(output)], output)
            assert not row[len(output) :].any()
    assert states["last_hidden_state"] is states["hidden_states"][-1]
    assert [len(x) for x in encoder(WAVS)] == states["hidden_states_len"][-1].tolist()
    assert upstream.get_downsample_rates("hidden_states") == 160


@pytest.mark.parametrize(
    ("name", "dim", "ours", "options"),
    [
        ("fbank", 240, "fbank", {"cmvn": True, "delta_order": 2}),
        ("baseline", 240, "fbank", {"cmvn": True, "delta_order": 2}),
        ("fbank_no_cmvn", 240, "fbank", {"delta_order": 2}),
        ("mel", 80, "mel", {"cmvn": True, "target_level_db": None}),
        ("linear", 201, "spectrogram", {"cmvn": True, "target_level_db": None}),
    ],
)
def test_spectral_features_are_those_of_s3prl(
    name: str, dim: int, ours: str, options: dict[str, object]
) -> None:
    (state,) = getattr(hub, name)(refresh=False)(WAVS[:1])["hidden_states"]
    (expected,) = auricle.load(ours, config=options)(WAVS[:1])
    assert state.shape[2] == dim
    assert torch.equal(state[0], expected)


def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """What the entry points ask `auricle.load` for."""
    calls: list[tuple[str, dict[str, object]]] = []

    def load(name: str, **options: object) -> Encoder:
        calls.append((name, {k: x for k, x in options.items() if x is not None}))
        return auricle.load("apc_mini")

    monkeypatch.setattr(hub, "load", load)
    return calls


def test_entry_points_that_take_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = loaded(monkeypatch)
    hub.tera_local(ckpt="a.ckpt", options_config="b.json")
    hub.vq_apc_local("a.ckpt", device="cuda", precision="bf16")
    hub.wav2vec2_custom(ckpt="a.pt", refresh=True)
    hub.hf_hubert_custom(ckpt="owner/name")
    hub.hf_hubert_custom(ckpt=str(tmp_path))
    common = {"refresh": False, "device": "cpu"}
    assert calls == [
        ("tera", {**common, "checkpoint": "a.ckpt", "config": "b.json"}),
        ("vq_apc", {**common, "checkpoint": "a.ckpt", "device": "cuda", "precision": "bf16"}),
        ("a.pt", {**common, "refresh": True}),
        ("hf://owner/name", common),
        (str(tmp_path), common),
    ]
    for name in ("tera_local", "hf_wav2vec2_custom"):
        with pytest.raises(AuricleError, match=f"{name} takes a checkpoint"):
            getattr(hub, name)()


def test_content_decides_between_wav2vec2_and_its_conformer() -> None:
    case = GoldenCase("wav2vec2_conformer_rope")
    upstream = hub.wav2vec2_local(ckpt=case.folder / "checkpoint.converted.pt")
    assert upstream.encoder.family == "wav2vec2_conformer"


def test_distilhubert_warns_of_the_states_it_lacks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded(monkeypatch)
    with caplog.at_level(logging.WARNING):
        hub.distilhubert()
    assert "hidden states 1 and 2 are those of s3prl" in caplog.text
