"""Run other people's software on the library, each in an environment of its own.

`make judges`, or `python tools/judges/run.py [NAMES]`, where judges.toml has the names and what is
installed for each. A judge is a module `judges.NAME` in this folder, run as `python -m judges.NAME`
in an empty folder, with `src/` and `tools/` on its path; its `main()` compares figures with limits
and prints them (verdict.py). Its environment shares torch and what else the library requires with
this one through links, unless it needs another Python.

Environments stay in build/judges and are made again where pins change. A judge that fails does not
stop the others: the status is 1 in the end. Results go to results.json, those of other judges
staying as they are, and into the table of docs/clients.md; `--render` writes that table alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if __name__ == "__main__":
    # In place of this folder, whose files are named as the packages that they run.
    sys.path[0] = str(ROOT / "tools")

from check_installs import requirements  # noqa: E402 - found by the line above
from environments import closure, find_interpreter, install, link, make_environment  # noqa: E402
from page_marks import with_contents  # noqa: E402

RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "clients.md"
TOOL = "python tools/judges/run.py --render"
CACHE = ROOT / "build" / "judges"
CONSTRAINTS = ROOT / "constraints.txt"
DONE = "installed.json"
"""File in an environment that says what it was made of, written when it is complete."""

TIMEOUT_SECONDS = 1800
"""For one judge, without what installing takes."""
DIGITS = 2
"""Significant digits of figures that are kept."""

Judge = Mapping[str, Any]


def judges() -> dict[str, Judge]:
    """The judges of judges.toml, by name, in the order of the page."""
    import tomli

    return tomli.loads((HERE / "judges.toml").read_text(encoding="utf-8"))


def make_base(folder: Path) -> Path:
    """Links to what the library requires, as it is installed here; new where that changes."""
    distributions = closure("auricle")[1:]
    found = {one.metadata["Name"]: [one.version, str(one.locate_file(""))] for one in distributions}
    base = folder / "base" / "site-packages"
    if read_done(base.parent) != found:
        shutil.rmtree(base.parent, ignore_errors=True)
        link(distributions, base)
        write_done(base.parent, found)
    return base


def read_done(folder: Path) -> Any:
    """What a complete folder was made of; None where it is not complete."""
    path = folder / DONE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_done(folder: Path, made_of: Any) -> None:
    """Say of a folder that it is complete."""
    (folder / DONE).write_text(json.dumps(made_of), encoding="utf-8")


def environment_of(name: str, judge: Judge, cache: Path) -> Path:
    """The interpreter of a judge's environment, which is made where it is not there or is another.

    Raises:
        RuntimeError: Something cannot be installed.
    """
    version = judge.get("python")
    own = requirements(()) if version else []
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    alone = [judge["judge"], *judge.get("alone", ())]
    made_of = [*alone, *judge["requires"], version or sys.version, *own, *pins]
    folder = cache / name
    if read_done(folder) != made_of:
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        if version:
            python = make_environment(folder, None, find_interpreter(version))
        else:
            python = make_environment(folder, make_base(cache))
        if wanted := [*own, *judge["requires"]]:
            install(python, "--constraint", str(CONSTRAINTS), *wanted)
        install(python, "--no-deps", "--ignore-requires-python", *alone)
        write_done(folder, made_of)
    elif not version:
        make_base(cache)
    return folder / "bin" / "python"


def run_judge(name: str, python: Path) -> dict[str, Any]:
    """Run a judge; what it prints in its last line, with whether it passed.

    Raises:
        RuntimeError: It ended without a verdict.
    """
    kept = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tools")])
    environment = {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-m", f"judges.{name}"]
    with tempfile.TemporaryDirectory(prefix="auricle-judge-") as folder:
        environment["HF_HOME"] = folder
        done = subprocess.run(  # noqa: S603 - a script of this folder
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    last = done.stdout.strip().rpartition("\n")[2]
    if not last.startswith("{"):
        raise RuntimeError(f"status {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    verdict = json.loads(last)
    verdict["passed"] = done.returncode == 0
    if not verdict["passed"]:
        print(done.stderr[-4000:], file=sys.stderr)  # noqa: T201 - why it failed
    return verdict


def judged(name: str, judge: Judge, cache: Path) -> dict[str, Any]:
    """The result of a judge, as results.json has it; without figures where it could not run."""
    start = time.monotonic()
    result: dict[str, Any] = {"version": judge["judge"].partition("==")[2], "passed": False}
    try:
        verdict = run_judge(name, environment_of(name, judge, cache))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)  # noqa: T201 - its report
        verdict = {"checks": {}}
    figures = {key: float(f"{x:.{DIGITS}g}") for key, x in verdict.pop("checks").items()}
    verdict.pop("judge", None)
    result |= {
        **verdict,
        "checks": {k: int(x) if x.is_integer() else x for k, x in figures.items()},
    }
    state = "passed" if result["passed"] else "FAILED"
    print(f"{state} {name} in {time.monotonic() - start:.0f} s", flush=True)  # noqa: T201 - its report
    return result


def read_results() -> dict[str, Any]:
    """The results that are kept, by the name of the judge."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def write_results(results: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write results in the order of `names`, whole or not at all."""
    ordered = {name: results[name] for name in names if name in results}
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    part.replace(RESULTS)


def table(results: Mapping[str, Any], known: Mapping[str, Judge]) -> str:
    """A table with a line for each judge that has a result."""
    lines = ["| judge | version | what is run | found |", "|---|---|---|---|"]
    for name, judge in known.items():
        if result := results.get(name):
            found = "; ".join(f"{key}: {figure:g}" for key, figure in result["checks"].items())
            found = found if result["passed"] else f"**failed** {found}".strip()
            cells = (judge["title"], result["version"], judge["what"], found)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def render(results: Mapping[str, Any], known: Mapping[str, Judge]) -> None:
    """Write the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_contents(page, {"judges": table(results, known)}, TOOL), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the judges that are named, or all; the status is 1 where one of them fails."""
    known = judges()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python tools/judges/run.py hear mteb",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(known)} (default: all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the environments")
    parser.add_argument("--render", action="store_true", help="write the table, no more")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no judge {', '.join(unknown)}; there are {', '.join(known)}")
    results = read_results()
    if not options.render:
        chosen = options.names or list(known)
        for name in chosen:
            results[name] = judged(name, known[name], options.cache.resolve())
            write_results(results, list(known))
    render(results, known)
    return 0 if options.render or all(results[name]["passed"] for name in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
