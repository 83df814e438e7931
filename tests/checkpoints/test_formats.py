from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES, Family
from auricle.checkpoints import formats
from auricle.checkpoints.formats import FORMATS, Format, formats_for, recognise
from auricle.checkpoints.pickle.values import InertRecord
from auricle.checkpoints.repositories import convert_cpc
from auricle.errors import CheckpointError, PlugInError
from auricle.optional import PlugIn
from golden_cases import GoldenCase


def npc_repo(method: str, **paras: object) -> dict[str, Any]:
    return {"config": {"model": {"method": method, "paras": paras}}, "model": {}}


def s3prl(config: dict[str, Any], *, legacy: bool) -> dict[str, Any]:
    sections = {"Config": config} if legacy else {"Config": {}, "Upstream_Config": config}
    return {"Transformer": {}, **sections}


@pytest.mark.parametrize(
    ("content", "name", "families"),
    [
        (npc_repo("apc"), "npc-repo", ("apc",)),
        (npc_repo("apc", vq={"codebook_size": [2]}), "npc-repo", ("vq_apc",)),
        (npc_repo("apc", vq=None), "npc-repo", ("apc",)),
        (npc_repo("vqapc"), "npc-repo", ("vq_apc",)),
        (npc_repo("npc"), "npc-repo", ("npc",)),
        ({"dims": {}, "model_state_dict": {}}, "openai-whisper", ("whisper",)),
        (s3prl({}, legacy=False), "s3prl", ("tera", "mockingjay")),
        (s3prl({}, legacy=True), "s3prl-legacy", ("mockingjay", "tera")),
        (s3prl({"task": {"noise_proportion": 0.15}}, legacy=True), "s3prl-legacy", ("tera", "mockingjay")),
        (s3prl({"task": {"mask_frequency": 8}}, legacy=True), "s3prl-legacy", ("tera", "mockingjay")),
        (s3prl({"task": {"mask_frequency": 0}}, legacy=True), "s3prl-legacy", ("mockingjay", "tera")),
        (s3prl({"transformer": {"share_layer": True}}, legacy=True), "s3prl-legacy", ("audio_albert",)),
        (s3prl({"transformer": {"share_layer": True}}, legacy=False), "s3prl", ("audio_albert",)),
    ],
)  # fmt: skip
def test_content_tells_format_and_family(
    content: dict[str, Any], name: str, families: tuple[str, ...]
) -> None:
    layout, payload = recognise(content)
    assert layout.name == name
    assert layout.families(payload) == families


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list, expected a mapping"),
        (InertRecord("a.Model"), r"holds a a.Model, expected a mapping; save its state_dict\(\)"),
        ({"a.weight": torch.ones(1)}, "bare tensors family= and config="),
        ({}, "holds nothing"),
        ({"state": 1, "other": 2}, "not one of .*: it holds state, other"),
        ({"config": "text", "model": {}}, "not one of"),
        ({"dims": 1, "model_state_dict": {}}, "not one of"),
    ],
)
def test_other_content_is_refused(content: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        recognise(content)


def test_an_unknown_method_is_refused() -> None:
    layout, payload = recognise(npc_repo("cpc"))
    with pytest.raises(CheckpointError, match="must be one of apc, vqapc, npc, but is 'cpc'"):
        layout.families(payload)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"Transformer": {}, "Settings": {}}, "s3prl before December 2020"),
    ],
)
def test_published_layouts_that_are_not_read_are_named(content: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointError, match=f"it looks like .*{name}.* does not read"):
        recognise(content)


def whisper() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(GoldenCase("whisper_official").checkpoints[0])
    return content


def test_whisper_s_half_precision_is_widened_and_its_prefix_is_any(tmp_path: Path) -> None:
    content = whisper()
    weights = content["model_state_dict"]
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    expected = GoldenCase("whisper_official").load()
    alone = {
        key.removeprefix("encoder."): weight
        for key, weight in weights.items()
        if key.startswith("encoder.")
    }
    for number, part in enumerate((alone, {f"a.b.{key}": x for key, x in weights.items()})):
        path = tmp_path / f"{number}.pt"
        torch.save({**content, "model_state_dict": part}, path)
        encoder = auricle.load(path)
        assert encoder.dtype == torch.float32
        assert encoder.config == expected.config
        pairs = zip(encoder.parameters(), expected.parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    bare = tmp_path / "bare.pt"
    torch.save(alone, bare)
    encoder = auricle.load(bare, family="whisper", config=content["dims"])
    assert encoder.config == expected.config


def test_whisper_s_context_must_be_30_s() -> None:
    content = whisper()
    content["dims"]["n_audio_ctx"] = 750
    layout, payload = recognise(content)
    with pytest.raises(
        CheckpointError, match=r"dims\.n_audio_ctx must be 1500, but is 750: .*30 s"
    ):
        layout.convert(payload, FAMILIES["whisper"])


OWN = Format("own", lambda content: content["own"], lambda content: ("mine",), convert_cpc)


def family(own: object, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A family of a plug-in whose converter brings `own`, and is the only one there is."""
    plug_in = PlugIn(EntryPoint("mine", "package:FAMILY", "auricle.families"))
    mine = msgspec.structs.replace(
        FAMILIES["tera"], stem="mine", plug_in=plug_in, converter="package.converter"
    )
    monkeypatch.setattr(Family, "converter_module", lambda _: SimpleNamespace(FORMATS=own))
    monkeypatch.setattr(formats, "plug_in_families", lambda: ([mine], []))
    monkeypatch.setattr(formats, "find_family", lambda _: mine)
    return mine


def test_plug_ins_are_asked_only_when_their_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "plug_in_families", lambda: pytest.fail("was asked"))
    assert tuple(formats_for("tera")) == FORMATS
    tried = formats_for(None)
    assert tuple(next(tried) for _ in FORMATS) == FORMATS


def test_the_order_depends_on_whether_the_family_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    family((OWN,), monkeypatch)
    library = [layout.name for layout in FORMATS]
    assert [layout.name for layout in formats_for("mine")] == ["own", *library]
    assert [layout.name for layout in formats_for(None)] == [*library, "own"]


def test_a_format_that_raises_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    family([OWN], monkeypatch)
    own = next(formats_for("mine"))
    assert own.matches({"own": True})
    assert not caplog.text
    assert not own.matches({})
    assert "entry point mine" in caplog.text
    assert "KeyError: 'own'" in caplog.text


def test_formats_of_another_type_are_the_plug_ins_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    family(OWN, monkeypatch)
    with pytest.raises(PlugInError, match="package.converter.FORMATS must be a tuple of Format"):
        next(formats_for("mine"))
    assert tuple(formats_for(None)) == FORMATS
    assert "FORMATS must be a tuple of Format" in caplog.text
