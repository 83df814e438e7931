"""The installer: programs of others that import s3prl find the library's."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch

import auricle.s3prl
from auricle.errors import AuricleError


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No s3prl is imported, before and after."""
    finders = list(sys.meta_path)

    def forget() -> None:
        sys.meta_path[:] = finders
        for name in [name for name in sys.modules if name.split(".")[0] == "s3prl"]:
            del sys.modules[name]

    forget()
    yield
    forget()


def test_modules_of_s3prl_are_found_once_installed() -> None:
    auricle.s3prl.install()
    auricle.s3prl.install()
    assert importlib.util.find_spec("s3prl.hub") is not None
    assert importlib.util.find_spec("s3prl.dataio") is None
    import s3prl.hub
    import s3prl.nn.upstream
    from s3prl.nn import Featurizer, S3PRLUpstream
    from s3prl.util.download import set_dir

    assert S3PRLUpstream is auricle.s3prl.nn.S3PRLUpstream is s3prl.nn.upstream.S3PRLUpstream
    assert Featurizer is auricle.s3prl.nn.Featurizer
    assert set_dir is auricle.s3prl.set_dir
    assert "apc_mini" in dir(s3prl.hub)
    assert s3prl.hub.apc_mini().encoder.family == "apc"
    assert s3prl.nn.__name__ == "s3prl.nn"
    assert auricle.s3prl.nn.__name__ == "auricle.s3prl.nn"
    with pytest.raises(AttributeError, match="dataio"):
        _ = auricle.s3prl.dataio
    auricle.s3prl.install()  # its own is no other


def test_another_s3prl_that_is_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3prl", ModuleType("s3prl"))
    finders = list(sys.meta_path)
    with pytest.raises(AuricleError, match="imported already"):
        auricle.s3prl.install()
    assert sys.meta_path == finders


def test_downloads_go_where_nothing_else_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AURICLE_CACHE", raising=False)
    monkeypatch.setenv("PRESENT", "")  # so that the variable is restored
    auricle.s3prl.util.download.set_dir("first")
    auricle.s3prl.set_dir("second")
    assert os.environ.pop("AURICLE_CACHE") == "first"


def test_the_extractor_of_lhotse_runs_unchanged() -> None:
    auricle.s3prl.install()
    from lhotse.features.ssl import S3PRLSSL, S3PRLSSLConfig

    extractor = S3PRLSSL(S3PRLSSLConfig(ssl_model="wav2vec2_mini", feature_dim=144))
    generator = np.random.default_rng(0)
    wavs = [0.1 * generator.standard_normal(size, dtype=np.float32) for size in (16_000, 9_111)]
    features = extractor.extract(wavs, 16_000)
    for wav, output in zip(wavs, features, strict=True):
        (expected,) = auricle.load("wav2vec2_mini", device="cpu")([torch.from_numpy(wav)])
        assert output.shape == (round(len(wav) / 320), 144)
        assert np.allclose(output[: len(expected)], expected.detach(), atol=1e-4)
