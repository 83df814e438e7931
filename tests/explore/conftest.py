"""A running explore page, and Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 120

expect.set_options(timeout=90_000)  # machines are busy


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def explore_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache of weights, so that published models would have to be downloaded."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def address(explore_cache: Path) -> Iterator[str]:
    """Where `auricle explore` serves its page, in a process of its own that knows no network."""
    port = free_port()
    environment = {**os.environ, "AURICLE_CACHE": str(explore_cache), "AURICLE_OFFLINE": "1"}
    command = [sys.executable, "-m", "auricle", "explore", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(url, timeout=10).close()
                break
            except (urllib.error.URLError, TimeoutError):
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window.

    Where there is none the tests are skipped, unless AURICLE_REQUIRE_BROWSER is set.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        message = f"no browser was found, looked for {', '.join(BROWSERS)}"
        if os.environ.get("AURICLE_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=list(FLAGS), timeout=START_SECONDS * 1000
        )
        yield chromium
        chromium.close()
