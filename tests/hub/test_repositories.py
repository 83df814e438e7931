from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

import auricle
from auricle.errors import DownloadError
from auricle.hub import catalogue
from auricle.hub.repositories import fetch_repository
from golden_cases import GoldenCase

CASE = GoldenCase("hf_hubert_base")


class Hub:
    """Stands for the hub's client: one repository, a cache, and what was asked of it."""

    def __init__(self, cache: Path) -> None:
        self.files = CASE.folder / "hf"
        self.cache = cache
        self.is_reachable = True
        self.hidden: set[str] = set()
        self.asked: list[tuple[str, str, bool]] = []

    def download(
        self,
        repository: str,
        name: str,
        *,
        cache_dir: Path,
        force_download: bool,
        local_files_only: bool,
    ) -> str:
        self.asked.append((repository, name, force_download))
        copy = self.cache / name
        if copy.exists() and not force_download:
            return str(copy)
        if local_files_only or not self.is_reachable:
            raise LocalEntryNotFoundError(f"{name} is not on the disk")
        source = self.files / name
        if not source.exists() or name in self.hidden:
            response: Any = type("Response", (), {"headers": {}, "request": None})()
            raise RemoteEntryNotFoundError(f"404 {name}", response=response)
        shutil.copy(source, copy)
        return str(copy)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    return hub


def test_a_repository_is_fetched_and_loads_by_its_catalogue_name(hub: Hub) -> None:
    encoder = auricle.load("hubert")
    assert encoder.info.name == "hubert_base"
    assert encoder.info.source_url == "hf://facebook/hubert-base-ls960"
    assert CASE.deviation(encoder) <= CASE.limit
    assert {repository for repository, _, _ in hub.asked} == {"facebook/hubert-base-ls960"}


def test_of_two_kinds_of_weights_safetensors_are_preferred(hub: Hub) -> None:
    hub.files = GoldenCase("hf_wavlm_base_plus").folder / "hf"
    assert (fetch_repository("hf://owner/name") / "model.safetensors").is_file()
    assert not any(name.endswith(".bin") for _, name, _ in hub.asked)


def test_refresh_asks_again(hub: Hub) -> None:
    fetch_repository("hf://owner/name")
    fetch_repository("hf://owner/name", refresh=True)
    assert [force for _, _, force in hub.asked] == [False] * 4 + [True] * 4


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
    hub.hidden = {"preprocessor_config.json"}
    shutil.copy(hub.files / "config.json", hub.cache)
    hub.is_reachable = False
    with pytest.raises(DownloadError, match="preprocessor_config.json is not on the disk"):
        fetch_repository("hf://owner/name")


def test_a_repository_without_weights_is_an_error(hub: Hub) -> None:
    hub.hidden = {"model.safetensors", "pytorch_model.bin"}
    with pytest.raises(DownloadError, match="lacks model.safetensors and pytorch_model.bin"):
        fetch_repository("hf://owner/name")
    with pytest.raises(DownloadError, match=r"(?s)cannot fetch hubert_base.*pass its folder"):
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
    assert asked == [catalogue.find("wav2vec2_large_ll60k").urls[1:]]
    assert "trying other places" in caplog.text
    assert encoder([torch.zeros(800)])[0].shape[1] == 48
