"""torch.hub: every name of the catalogue is an entry point, and the entry points work."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from auricle.catalogue import search
from auricle.catalogue.family import FAMILIES, RECORDS
from auricle.errors import AuricleError, UnknownModelError

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "tests" / "golden" / "cases" / "tera" / "checkpoint.ckpt"


def import_hubconf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hubconf_under_test", ROOT / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_entry_points_are_the_catalogue_and_the_families() -> None:
    hubconf = import_hubconf()
    # The same rule by which torch.hub.list finds them.
    entries = {
        name
        for name, value in vars(hubconf).items()
        if callable(value) and not name.startswith("_")
    }
    families = [stem for stem in FAMILIES if stem != "baseline"]
    expected = {name for record in RECORDS for name in record.names}
    expected |= {f"{stem}_{kind}" for stem in families for kind in ("local", "url")}
    taking = search.s3prl_names().checkpoints
    expected |= {name for names in taking.values() for name in names}
    assert entries == expected
    for name in entries:
        assert vars(hubconf)[name].__doc__
        own_name = vars(hubconf)[name].__name__
        if own_name != name and name.startswith(("distiller_", "espnet_hubert_")):
            assert own_name == f"hubert_{name.rpartition('_')[2]}"
        else:
            assert own_name == name or name in search.find(own_name).aliases


def test_entry_points_of_s3prl_are_there_unless_they_are_refused() -> None:
    names = search.s3prl_names()
    hubconf = vars(import_hubconf())
    assert all(callable(hubconf[name]) for name in names.models)
    assert not any(name in hubconf for absent in names.others for name in absent.names)


def test_names_of_s3prl_that_are_refused_say_so() -> None:
    for absent in search.s3prl_names().others:
        for name in absent.names:
            with pytest.raises(UnknownModelError, match=re.escape(absent.title)):
                torch.hub.load(str(ROOT), name, source="local")


def test_unknown_names_are_refused_with_those_that_are_close() -> None:
    with pytest.raises(UnknownModelError, match="close matches: hubert"):
        torch.hub.load(str(ROOT), "hubrt", source="local")
    hubconf = import_hubconf()
    assert not hasattr(hubconf, "_private")
    assert not hasattr(hubconf, "__path__")


def test_torch_hub_lists_the_entry_points_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *_, **__: str(ROOT))
    listed = torch.hub.list("owner/auricle", trust_repo=True)
    assert len(listed) == len(set(listed))
    assert {"tera", "tera_local"} <= {*listed}
    assert {*listed} <= {*vars(import_hubconf())}
    assert not {name for absent in search.s3prl_names().others for name in absent.names} & {*listed}


@pytest.mark.parametrize("name", ["distiller_local", "hubert_custom"])
def test_an_entry_point_of_s3prl_loads_a_checkpoint(name: str) -> None:
    checkpoint = CHECKPOINT.parents[1] / "distilhubert" / "checkpoint.ckpt"
    encoder = torch.hub.load(str(ROOT), name, ckpt=str(checkpoint), source="local")
    assert encoder.info.family == "hubert"


def test_dependencies_are_there() -> None:
    for name in import_hubconf().dependencies:
        assert importlib.util.find_spec(name) is not None, name


def test_without_an_installed_package_the_code_beside_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec

    def not_installed(name: str, package: str | None = None) -> Any:
        return None if name == "auricle" else find_spec(name, package)

    source = str(ROOT / "src")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != source])
    monkeypatch.setattr(importlib.util, "find_spec", not_installed)
    import_hubconf()
    assert sys.path[-1] == source


def test_torch_hub_loads_a_baseline() -> None:
    encoder = torch.hub.load(str(ROOT), "fbank", source="local")
    (frames,) = encoder([torch.sin(torch.arange(4000) / 10)])
    assert frames.shape == (23, 80)


def test_options_of_s3prl_are_taken() -> None:
    """As its users pass them; the encoder gives every layer, whatever was selected."""
    selected = {"feature_selection": "hidden_states", "refresh": False, "legacy": True}
    encoder = torch.hub.load(
        str(ROOT), "fbank", source="local", options_config={"cmvn": True}, **selected
    )
    assert encoder.config.features.cmvn
    local = torch.hub.load(str(ROOT), "tera_local", CHECKPOINT, source="local", **selected)
    assert local.info.family == "tera"
    with pytest.raises(
        AuricleError, match="fbank takes no select: expected ckpt, refresh, .*config, device"
    ):
        torch.hub.load(str(ROOT), "fbank", source="local", select=3)
    both = {"config": {"cmvn": True}, "model_config": {"cmvn": True}}
    with pytest.raises(AuricleError, match="config= and model_config=, which are one"):
        torch.hub.load(str(ROOT), "fbank", source="local", **both)
    with pytest.raises(AuricleError, match="tera_url takes no precision: expected ckpt, refresh"):
        torch.hub.load(str(ROOT), "tera_url", "a.ckpt", source="local", precision="bf16")


def test_torch_hub_loads_a_checkpoint() -> None:
    encoder = torch.hub.load(str(ROOT), "tera_local", CHECKPOINT, source="local")
    assert encoder.info.family == "tera"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tera", "Load TERA (https://arxiv.org/abs/2007.06028), trained on"),
        ("npc_local", "Load a checkpoint of NPC from a file"),
        (
            "apc_url",
            "Load a checkpoint of APC from a URL. The file is kept in the cache. Options: sha",
        ),
        ("mel", "Load the baseline mel: log mel"),
        ("wav2vec_custom", "Load a checkpoint of wav2vec from a file or an address. Paths"),
    ],
)
def test_help_says_what_is_loaded_and_which_options_there_are(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only `torch.hub.load` knows local repositories.
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *_, **__: str(ROOT))
    text = " ".join(torch.hub.help("owner/auricle", name, trust_repo=True).split())
    assert text.startswith(says)
    assert text.endswith("of `auricle.load`.")


def test_torch_hub_lists_and_helps_without_an_import_of_the_library() -> None:
    code = (
        "import sys, torch\n"
        f"torch.hub._get_cache_or_reload = lambda *_, **__: {str(ROOT)!r}\n"
        "assert 'tera' in torch.hub.list('owner/auricle', trust_repo=True)\n"
        "assert torch.hub.help('owner/auricle', 'tera', trust_repo=True)\n"
        "assert 'auricle' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_torch_hub_loads_from_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path))
    encoder = torch.hub.load(str(ROOT), "tera_url", ckpt=CHECKPOINT.as_uri(), source="local")
    assert encoder.info.source_url == CHECKPOINT.as_uri()
