"""The wheel alone, in an environment of its own and without a network, does the main job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]

NO_NETWORK = """\
import socket

def refuse(*arguments, **options):
    raise OSError("this environment has no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environment
    )


@pytest.mark.whole  # `make installs` installs and uses the wheel, once for each extra
def test_the_wheel_extracts_offline_with_the_embedded_model(tmp_path: Path) -> None:
    # Built from a copy, as a build may leave files behind.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet")
    built = run(*build, "--wheel-dir", tmp_path, source, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("auricle-*.whl")

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    # What the wheel depends on is that of the tests' environment, behind the wheel's own files.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (site / "sitecustomize.py").write_text(NO_NETWORK)

    waveform = 0.1 * np.random.default_rng(1).standard_normal(16_000)
    soundfile.write(tmp_path / "speech.wav", waveform, 16_000)
    python = environment / "bin" / "python"
    where = run(python, "-c", "import auricle; print(auricle.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(site)
    done = run(python, "-m", "auricle", "extract", "speech.wav", "--out", "features", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "apc_mini" in done.stderr
    code = "import auricle; print(tuple(auricle.open('features')['speech'].shape))"
    read = run(python, "-c", code, cwd=tmp_path)
    assert read.stdout == "(98, 224)\n", read.stderr
    refused = run(python, "-m", "auricle", "extract", "speech.wav", "--model", "tera", "--out", "o",
                  cwd=tmp_path)  # fmt: skip
    assert refused.returncode == 1
    assert "cannot fetch" in refused.stderr or "cannot download" in refused.stderr
