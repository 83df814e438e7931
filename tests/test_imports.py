"""Imports go one way, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import auricle
from golden_cases import golden_cases

ROOT = Path(auricle.__file__).parent

LEVELS: dict[str, int] = {
    "errors": 0,
    "info": 0,
    "optional": 1,
    "files": 2,
    "audio": 3,
    "frontends": 3,
    "nn": 3,
    "inference": 4,
    "models": 5,
    "inference.approximate": 6,
    "catalogue": 6,
    "corpus": 6,
    "objectives": 7,
    "store": 7,
    "checkpoints": 7,
    "hub": 8,
    "extraction": 10,
    "units": 9,
    "plotting": 9,
    "adapters": 9,
    "s3prl": 9,
    "training": 11,
    "probing": 11,
    "explore": 12,
    "cli": 13,
    "__init__": 14,
    "__main__": 14,
}
"""Part of the package -> its level; a part imports from lower levels and from itself alone."""

FREE_OF_TORCH = (
    "auricle",
    "auricle.catalogue.family",
    "auricle.catalogue.search",
    "auricle.hub.location",
    "auricle.hub.contents",
    # The parser, which imports the module of every command.
    "auricle.__main__",
)


def part_of(names: Sequence[str]) -> str:
    """The part of the package that a module is of, by its names below the package."""
    return next((part for part in (".".join(names[:2]), names[0]) if part in LEVELS), "__init__")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, also inside functions."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "auricle":
                parts.add(part_of(rest.split(".")))
    return parts


def test_imports_go_one_way() -> None:
    for path in ROOT.rglob("*.py"):
        part = part_of(path.relative_to(ROOT).with_suffix("").parts)
        for imported in imported_parts(path) - {part}:
            allowed = LEVELS[imported] < LEVELS[part]
            assert allowed, f"{path.relative_to(ROOT)} imports {imported}"


def test_families_never_import_families() -> None:
    paths = (ROOT / "models").glob("*.py")
    stems = {path.stem for path in paths} - {"__init__", "base", "definition"}
    shared = {"waveform_transformer"}  # the base of families in several files
    for stem in stems:
        path = ROOT / "models" / f"{stem}.py"
        text = path.read_text() if path.exists() else ""  # families may share a class
        others = [other for other in stems - shared - {stem} if f"auricle.models.{other} " in text]
        assert not others, f"models/{stem}.py imports {others}"


def test_light_modules_do_not_import_torch() -> None:
    code = (
        "import sys\nfrom importlib import import_module\n"
        "heavy = {'torch', 'numpy', 'soundfile', 'matplotlib', 'httpx', 'tqdm'}\n"
        f"for name in {FREE_OF_TORCH}:\n"
        "    import_module(name)\n"
        "    if found := heavy & set(sys.modules):\n"
        "        sys.exit(f'import {name} imports {found}')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_no_encoder_imports_the_compiler() -> None:
    """Loading, building and calling any family imports neither torch's compiler nor sympy."""
    names = list({case.family: case.name for case in golden_cases()}.values())
    code = (
        "import sys, torch, auricle\n"
        "from auricle.catalogue.family import FAMILIES\n"
        "from auricle.checkpoints.checkpoint import blank_encoder\n"
        "from golden_cases import GoldenCase\n"
        f"for case in map(GoldenCase, {names}):\n"
        "    encoder = case.load()\n"
        "    auricle.build(encoder.config)\n"
        "    wavs = [torch.randn(encoder.min_samples + n) for n in (900, 90)]\n"
        "    with torch.no_grad():\n"
        "        encoder(wavs)\n"
        "    encoder(wavs)[0].sum().backward()\n"
        "    heavy = {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
        "    assert not heavy, f'{case.name} imports {heavy}'\n"
        # PASE computes its first filters, small ones, by powers.
        "for family in FAMILIES.values():\n"
        "    if family.stem != 'pase':\n"
        "        blank_encoder(family, next(iter(family.presets().values())))\n"
        "assert 'torch._dynamo' not in sys.modules, 'a published size imports it'\n"
    )
    tests = Path(__file__).parent
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tests)
    assert result.returncode == 0, result.stderr
