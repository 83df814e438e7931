"""Every command and snippet of the README and the pages, run as a reader would run it.

| fence | what becomes of it |
|---|---|
| `python` | run, all blocks of a page in one namespace |
| `sh` | run, in the same folder; any exit status but 0 fails |
| `py` | code of other libraries: must parse |
| `toml`, `json` | must parse |
| `text` | output or a formula: not run, but commands of auricle in it must parse |

Any other fence fails. `conftest.py` makes the folder that they run in, and models of random weights
in place of those that would be downloaded.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import NoReturn
from unittest import mock

import msgspec
import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from auricle import optional
from auricle.__main__ import build_parser, main
from auricle.catalogue import search
from auricle.hub.cache import embedded_path
from auricle.training.recipe import read_recipe
from forks import run

ROOT = Path(__file__).parents[2]
PAGES = [
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]

WHOLE = {
    "docs/pytorch.md",  # as tests/contract/test_padded.py
    *(page for page in PAGES if re.fullmatch(r"docs/models/(?!apc_|tera_)\w+_mini\.md", page)),
}
"""Pages whose lines other tests have, or other pages of the same template: left to --whole."""

NETWORK = "reaches a network"
NOT_RUN = {
    ("README.md", "hf-dataset://"): NETWORK,
    ("CONTRIBUTING.md", "git clone"): NETWORK,
    ("CONTRIBUTING.md", ".venv/bin"): "runs the tests",
    ("docs/adding-a-family.md", ".venv/bin"): "runs the tests",
    ("docs/extraction.md", "s3://"): "needs a Ray cluster and a bucket",
    ("docs/extraction.md", "hf-dataset://"): NETWORK,
    ("docs/models/README.md", "--task abx"): "needs the utterances of the items",
    ("docs/pretraining.md", "torchrun"): "needs four GPUs",
    ("docs/speed.md", "peers"): "installs other libraries, and takes an hour",
    ("docs/weights.md", "/data/auricle"): "needs a group and a folder of the system",
    ("docs/weights-of-your-own.md", "hf auth login"): "needs an account",
    ("docs/weights-of-your-own.md", "hf upload"): "needs an account",
}
"""Page and part of a line -> why the lines with that part are left out. Nothing else is."""

PAGES_OF_PICTURES = ("docs/pretraining.md", "docs/probing.md")
"""Pages whose pictures are drawn; others are of the kinds that tests/plotting and tests/cli draw."""

GLOBS = re.compile(r"[*?]")
QUOTES = re.compile(r"['\"]")
SHELL_SYNTAX = re.compile(r"[|&;<>$`(){}*?~]")
STATEFUL = re.compile(r"^ |^(cd|do|done|else|fi|for|if|set|umask|while|\w+=\S*)\b|<<")
"""Lines on which others of their block depend, or which are parts of a statement."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fence:
    """A block of code; `line` is the number of its opening line."""

    page: str
    line: int
    language: str
    code: str

    @property
    def kept(self) -> str:
        """The code with empty lines in place of those that are not to be run."""
        parts = [part for page, part in NOT_RUN if page == self.page]
        code = re.sub(r"\\\n *", "", self.code) if self.language == "sh" else self.code
        lines = code.splitlines()
        return "\n".join("" if any(part in line for part in parts) else line for line in lines)

    def fail(self, reason: str, *, line: int | None = None) -> NoReturn:
        """Fail the test, with the place of the block, or of the line in the page."""
        pytest.fail(f"{self.page}:{line or self.line}: {reason}", pytrace=False)


def fences(page: str) -> Iterator[Fence]:
    """The blocks of code of a page, indented ones as fences without a language."""
    for token in MarkdownIt().parse((ROOT / page).read_text()):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = (token.info.split() or [""])[0]
            yield Fence(page=page, line=token.map[0] + 1, language=language, code=token.content)


# WebDataset leaves closing its files to the collector of garbage.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.whole] if page in WHOLE else []) for page in PAGES],
)
def test_all_of_the_page_runs(
    page: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    found = list(fences(page))
    if not is_whole:
        monkeypatch.setitem(COMMANDS, "auricle", Sampled())
    if not (is_whole or page in PAGES_OF_PICTURES):
        request.getfixturevalue("undrawn_pictures")
    if any(fence.language in ("python", "sh") for fence in found):
        folder: Path = request.getfixturevalue("folder")
        stand_in: Callable[[str], None] = request.getfixturevalue("stand_in")
        snippets: ModuleType = request.getfixturevalue("snippets")
    for fence in found:
        if fence.language in ("python", "sh"):
            stand_in(fence.kept)
        if fence.language == "python":
            run_python(fence, snippets)
        elif fence.language == "sh":
            run_shell(fence, folder)
        elif fence.language in PARSERS:
            try:
                PARSERS[fence.language](fence.code)
            except (SyntaxError, ValueError) as error:
                fence.fail(f"does not parse: {error}")
        else:
            fence.fail(f"language {fence.language!r}; expected python, sh, {', '.join(PARSERS)}")


def test_nothing_is_left_out_that_is_not_there() -> None:
    for page, part in NOT_RUN:
        lines = [line for fence in fences(page) for line in fence.code.splitlines()]
        assert any(part in line for line in lines), f"{page} has no line with {part!r} any more"


def parse_commands(text: str) -> None:
    """Parse the lines that are commands; forms such as `auricle info [OPTIONS] MODEL` are none."""
    for line in text.splitlines():
        if line.startswith("auricle ") and not re.search(r"\[| \.\.\.", line):
            errors = io.StringIO()
            try:
                with redirect_stderr(errors):
                    build_parser("").parse_args(shlex.split(line, comments=True)[1:])
            except SystemExit:
                raise ValueError(f"{line}\n{errors.getvalue()}") from None


PARSERS: dict[str, Callable[[str], object]] = {
    "py": ast.parse,
    "toml": msgspec.toml.decode,
    "json": msgspec.json.decode,
    "text": parse_commands,
}


def run_python(fence: Fence, module: ModuleType) -> None:
    """Run a block; its lines have the numbers that they have in the page."""
    code = compile(
        "\n" * fence.line + fence.kept, str(ROOT / fence.page), "exec", dont_inherit=True
    )
    try:
        exec(code, vars(module))
    except Exception as error:
        trace = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in trace if frame.filename == code.co_filename]
        fence.fail("".join(traceback.format_list(trace)) + repr(error), line=inside[-1].lineno)


def run_shell(fence: Fence, folder: Path) -> None:
    """Run a block: lines of `COMMANDS` in this process, others by bash, with what they depend on.

    Starting `auricle` takes seconds, most of them for torch.
    """
    lines = [line for line in fence.kept.splitlines() if shlex.split(line, comments=True)]
    if any(map(STATEFUL.search, lines)):
        run_bash(fence, fence.kept, folder)
        return
    for line in lines:
        if is_simple(line):
            run_here(fence, line)
        else:
            run_bash(fence, line, folder)


def run_here(fence: Fence, line: str) -> None:
    name, *words = shlex.split(line, comments=True)
    if not QUOTES.search(line):
        words = [path for word in words for path in globbed(word)]
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            status = COMMANDS[name](words)
        except SystemExit as end:
            status = end.code
    if status:
        fence.fail(f"`{line}` has status {status}\n{output.getvalue()}")


def globbed(word: str) -> list[str]:
    """The paths of a pattern, as a shell expands it; any other word by itself."""
    found = sorted(map(str, Path().glob(word))) if GLOBS.search(word) else []
    return found or [word]


def is_simple(line: str) -> bool:
    """Whether a line is a command of `COMMANDS` with plain or quoted words, or with patterns."""
    words = shlex.split(line, comments=True)
    unquoted = re.sub(r"'[^']*'|\"[^\"$`]*\"|(^| )#.*", "", line)
    if not QUOTES.search(line):
        unquoted = GLOBS.sub("", unquoted)
    return words[0] in COMMANDS and not SHELL_SYNTAX.search(unquoted)


def run_bash(fence: Fence, code: str, folder: Path) -> None:
    commands = folder.parent / "bin"
    commands.mkdir(exist_ok=True)
    for name, module in (("auricle", "-m auricle"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (commands / name).chmod(0o755)
    for name in ("pip", "make"):
        (commands / name).write_text(f"#!/bin/sh\necho {name} needs a block of its own\nexit 1\n")
        (commands / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-ec", code],
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        fence.fail(f"status {done.returncode}\n{code}\n{done.stdout}")


def auricle(words: Sequence[str]) -> int:
    """The command, which may train here after another training with other options."""
    if words[0] == "pretrain":
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
    return main(words)


class Sampled:
    """The command as `auricle`, which of many trainings and probed models of a page runs the first.

    It exports nothing to ONNX. The others are parsed, their recipes and names looked up, and results of the package put where
    theirs would be.
    """

    NUM_TRAININGS = 1
    NUM_MODELS = 2

    def __init__(self) -> None:
        self.num_trainings = 0

    def __call__(self, words: Sequence[str]) -> int:
        arguments = build_parser("").parse_args(words)
        if words[0] == "pretrain":
            self.num_trainings += 1
            if self.num_trainings > self.NUM_TRAININGS:
                self.stand_in(read_recipe(arguments.recipe).identity.name, Path(arguments.out))
                return 0
        if words[0] == "export" and arguments.to == "onnx":  # tests/checkpoints/test_onnx.py
            search.find(arguments.model)
            return 0
        if words[0] == "probe" and "--models" in words:
            index = words.index("--models") + 1
            names = words[index].split(",")
            for name in names:
                search.find(name)
            kept = ",".join(names[: self.NUM_MODELS])
            words = [*words[:index], kept, *words[index + 1 :]]
        return auricle(words)

    def stand_in(self, name: str, out: Path) -> None:
        out.mkdir(parents=True)
        shutil.copy(embedded_path(search.find(name)), out / f"{name}.safetensors")
        shutil.copy(ROOT / "docs/models/training" / f"{name}.jsonl", out / "metrics.jsonl")


def pip(words: Sequence[str]) -> int:
    """Check that what is to be installed is what the library knows of; install a folder."""
    project = msgspec.toml.decode(Path("pyproject.toml").read_bytes())["project"]
    extras = project["optional-dependencies"]
    known = {"auricle", *map(name_of, project["dependencies"])}
    known |= {name_of(requirement) for extra in extras.values() for requirement in extra}
    assert words[0] == "install"
    for word in words[1:]:
        if word in ("-c", "-e", "-r") or Path(word).is_file():
            continue
        if re.match(r"\.?/", word):
            install(Path(word))
            continue
        requirement = re.sub(r"^\.", "auricle", word)
        assert name_of(requirement) in known, f"no extra has {requirement}"
        assert Requirement(requirement).extras <= set(extras), f"the extras are {[*extras]}"
    return 0


def name_of(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def install(source: Path) -> None:
    """What `pip install` does with a folder, for this process and those it starts."""
    target = Path("site").absolute()
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, source], check=True, text=True
    )
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] += f"{os.pathsep}{target}"
    importlib.invalidate_caches()
    optional.plug_ins.cache_clear()


def make(words: Sequence[str]) -> int:
    """Whether there is such a target; what it does is for others to test."""
    command = ["make", "--dry-run", "--directory", ROOT, *words]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode


def python(words: Sequence[str]) -> int:
    """Run a script here, as `python SCRIPT` does, and anything else in a process of its own."""
    if not words[0].endswith(".py"):
        return run(words).returncode
    with mock.patch.object(sys, "argv", list(words)):
        runpy.run_path(words[0], run_name="__main__")
    return 0


def export(words: Sequence[str]) -> int:
    os.environ.update(word.split("=", 1) for word in words)
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int | str | None]] = {
    "auricle": auricle,
    "pip": pip,
    "make": make,
    "python": python,
    "export": export,
}
"""What needs no shell."""
