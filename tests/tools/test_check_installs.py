from __future__ import annotations

from pathlib import Path

import pytest
from check_installs import (
    USES,
    check_extra,
    check_lowest,
    extras_for_users,
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


@pytest.mark.parametrize("keep", [True, False])
def test_the_lowest_versions_come_with_torchs_unless_it_is_kept(
    keep: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make_environment(folder: Path, base: Path | None) -> Path:
        assert base == (tmp_path if keep else None)
        return folder / "bin" / "python"

    def install(python: Path, *requirements: str) -> None:
        pins = (tmp_path / "lowest.txt").read_text().split()
        assert ("torch==2.4" in pins) is not keep
        assert "numpy==2.0" in pins
        installed.append(requirements)

    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr("check_installs.make_environment", make_environment)
    monkeypatch.setattr("check_installs.install", install)
    monkeypatch.setattr("check_installs.use", lambda python, extra: None)
    check_lowest(tmp_path, tmp_path if keep else None, tmp_path / "a.whl", extras_for_users())
    assert installed


def test_an_extra_that_does_not_work_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("lhotse needs urllib3")

    monkeypatch.setattr("check_installs.run", lambda *command, cwd: (cwd / "a.whl").touch())
    monkeypatch.setattr("check_installs.link", lambda distributions, target: None)
    monkeypatch.setattr("check_installs.check_lowest", lambda *arguments: None)
    monkeypatch.setattr("check_installs.check_extra", fail)
    assert main(["plot", "lowest"]) == 1
    output = capsys.readouterr().out
    assert "FAILED plot: lhotse needs urllib3" in output
    assert output.endswith("1 passed, 1 failed\n")
    assert check_extra is not fail
