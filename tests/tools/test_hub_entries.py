"""hubconf.py is that of the catalogue."""

from __future__ import annotations

from pathlib import Path

import hub_entries
import pytest


def test_hubconf_is_current() -> None:
    assert hub_entries.PATH.read_text() == hub_entries.expected(), f"run {hub_entries.TOOL}"


def test_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hubconf.py"
    path.write_text("old")
    monkeypatch.setattr(hub_entries, "PATH", path)
    with pytest.raises(SystemExit, match="hubconf.py is not current; run python tools/hub_entries"):
        hub_entries.main(["--check"])
    assert path.read_text() == "old"
    hub_entries.main([])
    hub_entries.main(["--check"])
    assert path.read_text() == hub_entries.expected()
