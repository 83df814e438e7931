from __future__ import annotations

import http.client
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.errors import AuricleError, MissingExtraError
from auricle.explore import page as module


def values(**changes: object) -> tuple[object, ...]:
    wanted = {
        "audio": "/x/speech.wav",
        "labels": None,
        "start": 0,
        "end": 0,
        "allowed": False,
        "models": ("apc_mini", "", ""),
        "layers": ("", "", ""),
        **changes,
    }
    models, layers = wanted.pop("models"), wanted.pop("layers")
    assert isinstance(models, tuple)
    assert isinstance(layers, tuple)
    return (*wanted.values(), *models, *layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": None}, "There is no speech yet"),
        ({"models": ("apc_mini", "apc_mini", "")}, "The same encoder and layer are chosen twice"),
        ({"models": ("apc_mini", "tera_960hr", "")}, "tera_960hr has to be downloaded"),
        ({}, "speech.wav"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AuricleError, match=message) as caught:
        module._draw(values(**changes), tmp_path)
    assert "/x/" not in str(caught.value)


def test_the_page_does_not_wait_for_torch() -> None:
    code = "import sys, auricle.explore.page; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with (
        pytest.raises(MissingExtraError, match="run pip install gradio"),
        module.serve(),
    ):
        pass


def test_the_page_is_this_machine_s_alone(address: str) -> None:
    with urllib.request.urlopen(address, timeout=60) as answer:
        policy = answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in policy
    assert "http" not in policy
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", "/", headers={"Host": "rebound.example"})
    assert connection.getresponse().status == 400
    connection.close()


def test_files_of_the_machine_are_not_served(address: str) -> None:
    for path in ("/etc/passwd", Path(__file__).resolve()):
        connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
        connection.request("GET", f"/gradio_api/file={path}")
        assert connection.getresponse().status in (403, 404)
        connection.close()


def test_a_port_in_use_is_an_error(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = address.rstrip("/").rpartition(":")[2]
    assert main(["explore", "--port", port]) == 1
    message = rf"auricle: error: cannot listen on 127.0.0.1, port {port}: .*; pass another --port\n"
    assert re.fullmatch(message, capsys.readouterr().err)
