"""Environments of their own for checks, on top of links to what is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> None:
    """Run a program without this environment's paths; what it prints is shown where it fails.

    Raises:
        RuntimeError: Its status is not 0.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    arguments = [str(part) for part in command]
    done = subprocess.run(  # noqa: S603 - programs of our own
        arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")


def closure(name: str) -> list[Distribution]:
    """The installed distributions that one needs without any extra, itself first."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[tuple[str, str], Distribution] = {}
    queue = [(name, "")]
    while queue:
        name, extra = queue.pop()
        key = canonicalize_name(name), extra
        if key in found:
            continue
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        for text in found[key].requires or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                queue += [(required.name, one) for one in ("", *required.extras)]
    return list({one.metadata["Name"]: one for one in found.values()}.values())


def link(distributions: Sequence[Distribution], target: Path) -> None:
    """Fill a folder with links to what is installed of distributions."""
    target.mkdir(parents=True)
    for one in distributions:
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            place = target / top
            if not place.exists():
                place.symlink_to(Path(str(one.locate_file(top))).resolve())


def make_environment(folder: Path, base: Path | None, interpreter: str | None = None) -> Path:
    """Make an environment, on top of the links in `base` or empty; gives its interpreter.

    Args:
        folder: Where it is made.
        base: Folder of links to packages of this interpreter's version.
        interpreter: That of another version, with `base` None; by default this one.
    """
    if interpreter is None:
        venv.create(folder, with_pip=False, symlinks=True)
    else:
        run(interpreter, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    if base is not None:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "base.pth").write_text(f"{base}\n")
    return folder / "bin" / "python"


def find_interpreter(version: str) -> str:
    """Path of an interpreter of a version such as "3.12", of the system or of pyenv.

    Raises:
        RuntimeError: There is none.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths = sorted(root.glob(f"versions/{version}.*/bin/python"))
    for path in (shutil.which(f"python{version}"), *map(str, reversed(paths))):
        if path is not None:
            shown = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)  # noqa: S603 - an interpreter
            if shown.stdout.startswith(f"Python {version}."):
                return path
    raise RuntimeError(f"there is no Python {version}: install it, or name others to run")


def install(python: Path, *requirements: str) -> None:
    """Install into the environment of an interpreter, by this environment's pip."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", *requirements, cwd=python.parents[1])
