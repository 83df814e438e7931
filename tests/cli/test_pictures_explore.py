from __future__ import annotations

import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from auricle.__main__ import main
from auricle.explore import page


@pytest.mark.parametrize(("options", "port"), [([], None), (["--port", "8123"], 8123)])
def test_the_page_is_served_until_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    port: int | None,
) -> None:
    ports: list[int | None] = []
    states: list[str] = []
    opened: list[str] = []

    @contextmanager
    def serve(port: int | None) -> Iterator[str]:
        ports.append(port)
        states.append("up")
        try:
            yield "http://127.0.0.1:1/"
        finally:
            states.append("down")

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(page, "serve", serve)
    monkeypatch.setattr(threading, "Event", Stopped)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["explore", *options]) == 0
    assert ports == [port]
    assert states == ["up", "down"]
    assert opened == []
    assert "open http://127.0.0.1:1/ in a browser" in capsys.readouterr().out
    assert main(["explore", *options, "--open"]) == 0
    assert opened == ["http://127.0.0.1:1/"]


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1"])
def test_ports_are_checked(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explore", f"--port={port}"])
    assert "expected a port from 1 to 65535" in capsys.readouterr().err
