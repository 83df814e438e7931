from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import msgspec
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import load_file, save_file

import auricle
from auricle.catalogue import search
from auricle.errors import CheckpointError, DownloadError
from auricle.files.atomic import file_sha256
from auricle.hub.huggingface import fetch_repository, fetch_snapshot
from golden_cases import GoldenCase

CASE = GoldenCase("hf_hubert_base")


COMMIT = "0123456789" * 4


class Hub:
    """Stands for the hub's client: one repository, a cache, and what was asked of it."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self.is_reachable = True
        self.hidden: set[str] = set()
        self.asked: list[tuple[str, str, bool]] = []
        self.revisions: list[str | None] = []

    def download(
        self,
        repository: str,
        name: str,
        *,
        revision: str | None,
        cache_dir: Path,
        force_download: bool,
        local_files_only: bool,
    ) -> str:
        self.asked.append((repository, name, force_download))
        self.revisions.append(revision)
        folder = f"models--{repository.replace('/', '--')}"
        copy = cache_dir / folder / "snapshots" / COMMIT / name
        if copy.exists() and not force_download:
            return str(copy)
        if local_files_only or not self.is_reachable:
            raise LocalEntryNotFoundError(f"{name} is not on the disk")
        source = self.files / name
        if not source.exists() or name in self.hidden:
            response: Any = type("Response", (), {"headers": {}, "request": None})()
            raise RemoteEntryNotFoundError(f"404 {name}", response=response)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
        return str(copy)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(CASE.folder / "hf")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr("auricle.hub.huggingface.unreachable_reason", lambda: None)
    return hub


def test_a_repository_is_fetched_and_loads_by_its_catalogue_name(hub: Hub) -> None:
    encoder = auricle.load("hubert")
    assert encoder.info.name == "hubert_base"
    assert encoder.info.source_url == "hf://facebook/hubert-base-ls960"
    assert CASE.deviation(encoder) <= CASE.limit
    assert {repository for repository, _, _ in hub.asked} == {"facebook/hubert-base-ls960"}


def with_preprocessor(folder: Path, **options: object) -> Path:
    """A copy of the repository whose preprocessor says otherwise."""
    shutil.copytree(CASE.folder / "hf", folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(options))
    return folder


def test_a_name_of_the_catalogue_normalises_as_its_authors_do(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.files = with_preprocessor(tmp_path / "copy", do_normalize=True)
    encoder = auricle.load("hubert_base")
    assert CASE.deviation(encoder) <= CASE.limit
    assert "says that waveforms are normalised, the authors" in caplog.text
    caplog.clear()
    again = auricle.load("hubert")  # of the conversion
    assert again.config == encoder.config
    assert not caplog.records
    # By whatever file it comes under that name.
    own = auricle.load("hubert_base", checkpoint=hub.files)
    assert own.config == encoder.config
    assert "load a checkpoint of your own by its path alone" in caplog.text
    # A folder of one's own, or any repository, goes by its file.
    for place in (hub.files, "hf://facebook/hubert-base-ls960"):
        assert CASE.deviation(auricle.load(place)) > 0.01
    assert CASE.deviation(auricle.load("hubert", checkpoint=hub.files)) > 0.01


def test_a_file_that_others_state_otherwise_is_warned_of(
    hub: Hub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    auricle.load("hubert")
    assert "pytorch_model.bin has the sha256" in caplog.text
    assert "not stated by its authors" in caplog.text
    caplog.clear()
    auricle.load("hubert")  # at the first download alone
    assert not caplog.records
    (stated,) = [
        one for one in search.find("hubert_base").stated if one.place.endswith("pytorch_model.bin")
    ]
    digest = file_sha256(CASE.folder / "hf" / "pytorch_model.bin")
    same = msgspec.structs.replace(stated, sha256=digest)
    record = msgspec.structs.replace(search.find("hubert_base"), stated=(same,))
    monkeypatch.setattr(search, "_BY_NAME", {**search._BY_NAME, "hubert": record})
    auricle.load("hubert", refresh=True)
    assert not caplog.records


def test_a_repository_with_an_adapter_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = with_preprocessor(tmp_path / "copy", do_normalize=False)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "facebook/hubert-base-ls960"}
    (hub.files / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(CheckpointError, match=r"has an adapter \(LORA: adapter_config.json\)"):
        auricle.load("hf://owner/tuned")
    for name in ("config.json", "pytorch_model.bin"):
        (hub.files / name).unlink()
    with pytest.raises(CheckpointError, match="its base model is facebook/hubert-base-ls960"):
        auricle.load("hf://owner/adapter")


def test_of_two_kinds_of_weights_safetensors_are_preferred(hub: Hub) -> None:
    hub.files = GoldenCase("hf_wavlm_base_plus").folder / "hf"
    assert (fetch_repository("hf://owner/name") / "model.safetensors").is_file()
    assert not any(name.endswith(".bin") for _, name, _ in hub.asked)


def test_refresh_asks_again(hub: Hub) -> None:
    fetch_repository("hf://owner/name")
    fetch_repository("hf://owner/name", refresh=True)
    assert [force for _, _, force in hub.asked] == [False] * 6 + [True] * 6


def test_what_is_in_the_cache_needs_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.hidden = {"preprocessor_config.json"}
    folder = fetch_repository("hf://owner/name")
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    assert fetch_repository("hf://owner/name") == folder


def test_offline_without_a_cache_is_a_clear_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURICLE_OFFLINE", "1")
    with pytest.raises(DownloadError, match="AURICLE_OFFLINE forbids the network"):
        fetch_repository("hf://owner/name")


def test_a_preprocessor_that_cannot_be_reached_is_not_one_that_is_not_there(hub: Hub) -> None:
    hub.hidden = {"preprocessor_config.json", "pytorch_model.bin"}
    with pytest.raises(DownloadError):
        fetch_repository("hf://owner/name")
    hub.is_reachable = False
    with pytest.raises(DownloadError, match="cannot be fetched: preprocessor_config.json is not"):
        fetch_repository("hf://owner/name")


def test_a_repository_without_weights_is_an_error(hub: Hub) -> None:
    hub.hidden = {"model.safetensors", "pytorch_model.bin"}
    with pytest.raises(DownloadError, match="lacks model.safetensors and pytorch_model.bin"):
        fetch_repository("hf://owner/name")
    with pytest.raises(DownloadError, match=r"(?s)cannot fetch hubert_base.*pass the folder"):
        auricle.load("hubert")


def test_where_a_repository_fails_the_original_file_is_tried(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.is_reachable = False
    original = GoldenCase("wav2vec2_large_lv60").checkpoints[0]
    asked: list[tuple[str, ...]] = []

    def download(urls: tuple[str, ...], path: Path, **options: object) -> Path:
        asked.append(urls)
        return original

    monkeypatch.setattr("auricle.hub.download.download", download)
    encoder = auricle.load("wav2vec2_large_ll60k")
    assert asked == [search.find("wav2vec2_large_ll60k").urls[1:]]
    assert "trying other places" in caplog.text
    assert encoder([torch.zeros(800)])[0].shape[1] == 48


def test_all_files_are_of_the_commit_that_the_first_one_came_from(hub: Hub) -> None:
    snapshot = fetch_snapshot("hf://owner/name@refs%2Fpr%2F1")
    assert hub.revisions == ["refs/pr/1", *[COMMIT] * 5]
    assert snapshot.url == f"hf://owner/name@{COMMIT}"
    assert snapshot.weights == snapshot.path / "pytorch_model.bin"


def test_the_library_s_own_file_needs_no_configuration(hub: Hub, tmp_path: Path) -> None:
    hub.files = tmp_path / "files"
    hub.files.mkdir()
    encoder = auricle.load(GoldenCase("apc").checkpoints[0])
    encoder.save(hub.files / "model.safetensors")
    assert fetch_repository("hf://owner/name").name == "model.safetensors"
    # Nor does one in its way.
    (hub.files / "config.json").write_text("{}")
    assert fetch_repository("hf://owner/other").name == "model.safetensors"


def test_other_weights_need_their_configuration(hub: Hub) -> None:
    hub.files = GoldenCase("hf_wavlm_base_plus").folder / "hf"
    hub.hidden = {"config.json"}
    # Loading says what is wrong with a file that could have been ours.
    path = fetch_repository("hf://owner/name")
    with pytest.raises(auricle.CheckpointError, match="needs its folder with config.json"):
        auricle.load(path)
    hub.hidden = {"config.json", "model.safetensors"}
    with pytest.raises(DownloadError, match=r"lacks config.json; another file .*like hf://owner/"):
        fetch_repository("hf://owner/another")


def test_a_named_file_comes_with_the_configurations_beside_it(hub: Hub, tmp_path: Path) -> None:
    hub.files = tmp_path / "files"
    folder = hub.files / "large" / "v2"
    shutil.copytree(CASE.folder / "hf", folder)
    (folder / "pytorch_model.bin").rename(folder / "best.bin")
    snapshot = fetch_snapshot("hf://owner/name/large/v2/best.bin")
    assert sorted(path.name for path in snapshot.path.parent.iterdir()) == [
        "best.bin",
        "config.json",
        "preprocessor_config.json",
    ]
    assert snapshot.url == f"hf://owner/name@{COMMIT}/large/v2/best.bin"
    assert snapshot.weights == snapshot.path
    assert CASE.deviation(auricle.load(snapshot.path)) <= CASE.limit
    with pytest.raises(DownloadError, match="hf://owner/name/large/x.pt lacks large/x.pt"):
        fetch_snapshot("hf://owner/name/large/x.pt")


def test_the_newer_name_of_the_preprocessor_s_file_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.files = tmp_path / "files"
    shutil.copytree(CASE.folder / "hf", hub.files)
    options = (hub.files / "preprocessor_config.json").read_text()
    (hub.files / "preprocessor_config.json").unlink()
    (hub.files / "processor_config.json").write_text(f'{{"feature_extractor": {options}}}')
    folder = fetch_repository("hf://owner/name")
    assert (folder / "processor_config.json").is_file()


def test_weights_in_several_files_are_fetched_all(hub: Hub, tmp_path: Path) -> None:
    hub.files = tmp_path / "files"
    case = GoldenCase("hf_wavlm_base_plus")
    shutil.copytree(case.folder / "hf", hub.files)
    weights = load_file(hub.files / "model.safetensors")
    (hub.files / "model.safetensors").unlink()
    places = {key: f"part-{index % 2}.safetensors" for index, key in enumerate(weights)}
    for place in set(places.values()):
        part = {key: weight for key, weight in weights.items() if places[key] == place}
        save_file(part, hub.files / place)
    index = hub.files / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    snapshot = fetch_snapshot("hf://owner/name")
    assert snapshot.weights is None
    assert case.deviation(auricle.load(snapshot.path)) <= case.limit
    (hub.files / "part-1.safetensors").unlink()
    with pytest.raises(DownloadError, match="lacks part-1.safetensors"):
        fetch_snapshot("hf://owner/incomplete")


@pytest.mark.parametrize(
    "listing", ["{}", '{"weight_map": {"a": "../x"}}', "[", '{"weight_map": 1}']
)
def test_a_list_of_files_that_is_none_is_refused(hub: Hub, tmp_path: Path, listing: str) -> None:
    hub.files = tmp_path / "files"
    hub.files.mkdir()
    (hub.files / "config.json").write_text("{}")
    (hub.files / "model.safetensors.index.json").write_text(listing)
    with pytest.raises(DownloadError, match="index.json"):
        fetch_snapshot("hf://owner/name")


def test_offline_a_refresh_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="cannot be refreshed: HF_HUB_OFFLINE forbids"):
        fetch_repository("hf://owner/name", refresh=True)
