"""The tree of tests mirrors the tree of sources."""

from __future__ import annotations

from pathlib import Path

import auricle

SOURCES = Path(auricle.__file__).parent
TESTS = Path(__file__).parent
TOOLS = TESTS.parent / "tools"
JUDGES = TOOLS / "judges"
"""A folder with one test file for all: each judge is a check itself, run by `make judges`."""

TESTED_BY_THE_SUITES = {
    # The contract and golden suites run over every family and every converter.
    "checkpoints/converted.py",
    "errors.py",
}


def test_every_source_file_has_its_test_file() -> None:
    missing = []
    for path in SOURCES.rglob("*.py"):
        relative = path.relative_to(SOURCES)
        if path.stem == "__init__" or str(relative) in TESTED_BY_THE_SUITES:
            continue
        test = TESTS / relative.parent / f"test_{path.stem.strip('_')}.py"
        if not test.exists():
            missing.append(str(relative))
    missing += [
        f"tools/{path.name}"
        for path in (*TOOLS.glob("*.py"), JUDGES.with_suffix(".py"))
        if not (TESTS / "tools" / f"test_{path.name}").exists()
    ]
    assert not missing


def test_every_test_file_has_its_source_file() -> None:
    own_suites = {"contract", "docs", "golden", "peers"}
    stray = []
    for path in TESTS.rglob("test_*.py"):
        relative = path.relative_to(TESTS)
        if relative.parts[0] in own_suites or len(relative.parts) == 1:
            continue
        stem = path.stem.removeprefix("test_")
        folder = TOOLS if relative.parts[0] == "tools" else SOURCES / relative.parent
        if stem == folder.name and (folder / "__init__.py").exists():
            continue
        # A file with much to test may have several: test_<stem>_<aspect>.py.
        sources = [*folder.glob("*.py"), *([JUDGES] if folder == TOOLS else [])]
        if not any(stem == s.stem or stem.startswith(f"{s.stem}_") for s in sources):
            stray.append(str(relative))
    assert not stray
