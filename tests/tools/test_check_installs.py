from __future__ import annotations

from pathlib import Path

import pytest
from check_installs import (
    USES,
    check_extra,
    closure,
    extras_for_users,
    link_base,
    lowest,
    main,
    requirements,
)


def test_every_extra_for_users_is_used() -> None:
    assert set(USES) == set(extras_for_users())
    assert {"plot", "formats", "peers"} < set(USES)


def test_everything_that_is_required_has_a_lowest_version() -> None:
    pins = lowest(requirements(extras_for_users()))
    assert "numpy==2.0" in pins
    assert "urllib3==1.26" in pins
    assert all(pin.count("==") == 1 for pin in pins)


def test_a_requirement_without_a_lowest_version_is_an_error() -> None:
    assert lowest(["a>=1.2,<2; python_version < '3.11'", "b[x]>=3"]) == ["a==1.2", "b==3"]
    with pytest.raises(ValueError, match="c<2 has no lower bound"):
        lowest(["c<2"])


def test_the_base_has_what_no_extra_brings(tmp_path: Path) -> None:
    link_base(tmp_path / "base")
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert {"torch", "numpy", "pyarrow", "soundfile.py"} <= names
    # Of extras, and of the environment of the tests.
    assert not {"auricle", "matplotlib", "lhotse", "urllib3", "sklearn", "pytest"} & names
    assert closure("auricle")[0].metadata["Name"] == "auricle"


def test_an_extra_that_does_not_work_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("lhotse needs urllib3")

    monkeypatch.setattr("check_installs.run", lambda *command, cwd: (cwd / "a.whl").touch())
    monkeypatch.setattr("check_installs.link_base", lambda target: None)
    monkeypatch.setattr("check_installs.check_lowest", lambda *arguments: None)
    monkeypatch.setattr("check_installs.check_extra", fail)
    assert main(["plot", "lowest"]) == 1
    output = capsys.readouterr().out
    assert "FAILED plot: lhotse needs urllib3" in output
    assert output.endswith("1 passed, 1 failed\n")
    assert check_extra is not fail
