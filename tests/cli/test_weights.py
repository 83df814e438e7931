from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from auricle.__main__ import main
from auricle.files.atomic import pin


def test_a_flipped_byte_is_status_1_and_says_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AURICLE_CACHE", str(tmp_path))
    path = tmp_path / "checkpoints" / "tera_960hr.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    pin(path, hashlib.sha256(b"weights").hexdigest())
    assert main(["verify", "tera"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "whole    tera_960hr  checkpoints/tera_960hr.ckpt",
        "1 whole, 0 changed, 0 unknown, 0 missing",
    ]
    path.write_bytes(b"weightz")
    assert main(["verify"]) == 1
    output = capsys.readouterr().out
    assert "changed  tera_960hr  checkpoints/tera_960hr.ckpt: its sha256 is" in output
    assert "repair: `auricle cache remove tera_960hr --originals`" in output
    assert main(["cache", "remove", "tera_960hr", "--originals"]) == 0
    capsys.readouterr()
    assert main(["verify", "tera"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "missing  tera: not on this machine",
        "0 whole, 0 changed, 0 unknown, 1 missing",
    ]
    assert main(["verify", "apc_mini", "tera"]) == 1
    assert "1 whole, 0 changed, 0 unknown, 1 missing" in capsys.readouterr().out
    assert main(["verify", "terra"]) == 1
