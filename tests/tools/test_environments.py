from __future__ import annotations

import sys
from pathlib import Path

import pytest
from environments import closure, find_interpreter, link, make_environment, run


def test_the_base_has_what_no_extra_brings(tmp_path: Path) -> None:
    link(closure("auricle")[1:], tmp_path / "base")
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert {"torch", "numpy", "pyarrow", "soundfile.py"} <= names
    # Of extras, and of the environment of the tests.
    assert not {"auricle", "matplotlib", "lhotse", "urllib3", "sklearn", "pytest"} & names
    assert closure("auricle")[0].metadata["Name"] == "auricle"


def test_torch_alone_comes_without_what_the_library_requires(tmp_path: Path) -> None:
    link(closure("torch"), tmp_path / "torch")
    names = {path.name for path in (tmp_path / "torch").iterdir()}
    assert {"torch", "sympy"} <= names
    assert not {"numpy", "pyarrow", "safetensors"} & names


def test_an_environment_finds_what_is_linked(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "found.py").write_text("")
    python = make_environment(tmp_path / "one", tmp_path / "base")
    run(python, "-c", "import found", cwd=tmp_path)
    with pytest.raises(RuntimeError, match="No module named 'other'"):
        run(python, "-c", "import other", cwd=tmp_path)


def test_an_interpreter_is_found_by_its_version() -> None:
    version = "{}.{}".format(*sys.version_info)
    assert Path(find_interpreter(version)).exists()
    with pytest.raises(RuntimeError, match="there is no Python 3.1: install it"):
        find_interpreter("3.1")
