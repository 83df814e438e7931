from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.errors import AuricleError, MissingExtraError
from auricle.explore import drawing
from auricle.explore import page as module
from auricle.explore.drawing import DrawRequest, DrawResult


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


def test_two_visitors_at_once_get_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_draw = threading.Barrier(2)

    def draw(request: DrawRequest, folder: Path) -> DrawResult:
        files = folder / "picture.png", folder / "features.npz"
        both_draw.wait(timeout=60)
        for file in files:
            file.write_text(f"{request.name}: {request.models[0][0]}")
        both_draw.wait(timeout=60)
        return DrawResult(view={"name": request.name}, picture=files[0], features=files[1])

    monkeypatch.setattr(drawing, "draw", draw)
    visits = {"a.wav": "apc_mini", "b.wav": "npc_mini"}
    wanted = [values(audio=f"/x/{name}", models=(model, "", "")) for name, model in visits.items()]
    with ThreadPoolExecutor(2) as visitors:
        drawn = list(visitors.map(lambda one: module._draw(one, tmp_path), wanted))
    for (name, model), (view, files) in zip(visits.items(), drawn, strict=True):
        assert view == {"name": name}
        assert [file.read_text() for file in files] == 2 * [f"{name}: {model}"]


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
