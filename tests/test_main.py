"""The command as a whole: exit statuses, one-line errors, quick help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import auricle
import auricle.cli.listing
from auricle.__main__ import main
from forks import run


def run_command(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "auricle", *arguments]
    source = str(Path(auricle.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    environment.pop("PYTHONUNBUFFERED", None)  # it would hide what is left unflushed
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )


def test_list_prints_a_table() -> None:
    result = run_command("list")
    assert result.returncode == 0
    assert "tera" in result.stdout
    assert result.stderr == ""


def test_a_damaged_data_file_is_named_in_one_line() -> None:
    code = (
        "import runpy, sys\n"
        "toml = __import__('tomllib' if sys.version_info >= (3, 11) else 'tomli')\n"
        "toml.loads = lambda text: {'titel': text}\n"
        "runpy.run_module('auricle', run_name='__main__')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("auricle: error: catalogue/families/")
    assert "unknown key `titel`" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["list"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom auricle.__main__ import main\n"
        f"try: main({arguments})\nexcept SystemExit as leave: assert leave.code == 0\n"
        "heavy = {'torch', 'numpy', 'soundfile', 'matplotlib', 'httpx', 'tqdm'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_required_package_that_does_not_import_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: object) -> int:
        raise ImportError("pyarrow requires NumPy 2.0 or newer, found 1.26.0")

    monkeypatch.setattr(auricle.cli.listing, "run", run)
    assert main(["list"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "(pyarrow requires NumPy 2.0 or newer, found 1.26.0); `pip check`" in error


def test_a_star_import_leaves_python_s_own_open() -> None:
    names: dict[str, object] = {}
    exec("from auricle import *", names)
    assert "open" not in names
    assert names["open_store"] is auricle.open_store is auricle.open


def test_a_reader_that_went_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        # Short enough to be held back until the end.
        result = run_command("list", "fbank", stdout=writing)
    finally:
        os.close(writing)
    assert result.returncode == 141
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = run_command("list", "fbank", stdout=full.fileno())
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "No space left" in result.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main(["--version"])
    assert leave.value.code == 0
    assert capsys.readouterr().out == f"auricle {auricle.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["sing"], ["extract", "a.wav"], ["list", "--fam", "x"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert leave.value.code == 2
    assert "usage: auricle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [([], ["usage: auricle [", "extract"]), (["cache"], ["usage: auricle cache", "examples:"])],
)
def test_without_a_subcommand_the_whole_help_is_printed(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert leave.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert all(part in output.err for part in [*parts, "options:"])


def test_an_error_of_the_library_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "terra"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("auricle: error: no model is called 'terra'")
    assert captured.err.count("\n") == 1


def test_an_interruption_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(auricle.cli.listing, "run", interrupt)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "auricle: interrupted\n"


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(auricle.cli.listing, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_warnings_are_told_as_such() -> None:
    weights = Path(auricle.__file__).parent / "pretrained" / "tera_mini.safetensors"
    result = run(["-m", "auricle", "info", "tera_960hr", "--checkpoint", str(weights)])
    assert result.returncode == 0
    assert result.stderr.startswith("auricle: warning: the checkpoint given for tera_960hr is")


def test_a_warning_that_another_library_prints_is_printed_once() -> None:
    code = (
        "import logging, auricle.__main__ as program\n"
        "hub = logging.getLogger('huggingface_hub')\n"
        "hub.addHandler(logging.StreamHandler())\n"
        "def main():\n"
        "    logging.getLogger('huggingface_hub.http').warning('of the hub')\n"
        "    logging.getLogger('auricle.hub').warning('of ours')\n"
        "program.main = main\n"
        "program.program()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines() == ["of the hub", "auricle: warning: of ours"]


def test_a_configuration_may_be_a_url(tmp_path: Path) -> None:
    config = tmp_path / "own.cfg"
    weights = Path(auricle.__file__).parent / "pretrained" / "apc_mini.safetensors"
    result = run(["-m", "auricle", "info", str(weights), "--config", config.as_uri()])
    assert f"'{config.as_uri()}' names, is not a file" in result.stderr
    config.write_text("{}")
    result = run(["-m", "auricle", "info", str(weights), "--config", config.as_uri()])
    assert "brings its own configuration" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
def test_a_program_that_is_told_to_end_ends_in_order() -> None:
    code = (
        "import os, signal, sys, auricle.__main__ as program\n"
        "program.main = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        "try:\n    program.program()\nfinally:\n    print('in order')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "in order\n")
