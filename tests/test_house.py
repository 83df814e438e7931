"""Rules of the house: size of the package, import cycles, class names, docstrings and words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import auricle

SOURCES = Path(auricle.__file__).parent
ROOT = Path(__file__).parents[1]

MAX_FILES = 200
MAX_LINES = 400

QUESTION_WORDS = {"what", "how", "where", "whether", "which", "why"}
"""A docstring opens with an imperative or a noun phrase, with the term that a reader searches for."""

TERMS = {
    "behind": "after",
    "anew": "again",
    "nobody": "no ...",
    "mend": "repair",
    "mends": "repairs",
    "mended": "repaired",
    "mending": "repairing",
    "told": "given, specified, reported",
    "stretch": "chunk, segment, span",
    "stretches": "chunks, segments, spans",
    "true frame": "valid frame",
    "true frames": "valid frames",
    "as_it_is": "unchanged, identity",
    "kept_with": "cached from",
    "so-manieth": "every n-th, round-robin",
    "thinned": "subsampled",
    "forget_barren": "discard empty",
}
"""Word of the house -> term of the field."""

WORDS = re.compile(
    # At the start of a word, of a part of a snake_case name, or of a part of a CamelCase name.
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    + "(?i:{})".format(
        "|".join(term.replace(" ", r"[\s#_-]+") for term in sorted(TERMS, reverse=True))
    )
    + r"(?![a-z])"
)

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "mkdocs.yml", "hubconf.py")
FOLDERS = ("docs", "examples", "recipes", "benchmarks", "tools")
WRITTEN = {".md", ".py", ".toml", ".yml", ".ipynb"}


def source_files() -> list[Path]:
    return sorted(SOURCES.rglob("*.py"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = ("auricle", *path.relative_to(SOURCES).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_package_has_few_files() -> None:
    assert len(source_files()) <= MAX_FILES


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in source_files()}
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path, lines in lengths.items()
        if lines > MAX_LINES
    ]
    assert not long, "\n".join(long)


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                yield text


def test_no_docstring_opens_with_a_question_word() -> None:
    found = [
        f"{place(path, text.lineno)}: {str(text.value).splitlines()[0]}"
        for path in source_files()
        for text in docstrings(parsed(path))
        if (opening := re.match(r"\W*([A-Za-z]+)", str(text.value)))
        and opening[1].lower() in QUESTION_WORDS
    ]
    assert not found, "\n".join(found)


def words_found(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = []
    for match in WORDS.finditer(text):
        word = re.sub(r"[\s#]+", " ", match[0]).lower()
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            f"{place(path, line)}: {match[0]!r}; say {TERMS.get(word, 'a term of the field')}"
        )
    if named := WORDS.search(path.stem):
        found.append(f"{path.relative_to(ROOT)} is named {named[0]!r}")
    return found


def test_sources_use_the_terms_of_the_field() -> None:
    found = [line for path in source_files() for line in words_found(path)]
    assert not found, "\n".join(found)


def test_pages_and_scripts_use_the_terms_of_the_field() -> None:
    pages = [ROOT / name for name in PAGES]
    for folder in FOLDERS:
        pages += sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in WRITTEN)
    found = [line for path in pages for line in words_found(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["Behind it", "stretch_length", "LongStretch", "true\n# frames"])
def test_words_are_found_in_sentences_and_names(text: str) -> None:
    assert WORDS.search(text)


@pytest.mark.parametrize(
    "text", ["amended", "outstretched", "retold", "as_items", "true framework"]
)
def test_parts_of_other_words_are_not_found(text: str) -> None:
    assert not WORDS.search(text)


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in source_files():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(place(path, node.lineno))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert not shared


class _Imports(ast.NodeVisitor):
    """Collect modules of the package that a file imports, also in functions, not for types."""

    def __init__(self, modules: set[str]) -> None:
        self.modules = modules
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names} & self.modules

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self.found |= {full if full in self.modules else str(node.module)} & self.modules


def import_graph() -> dict[str, set[str]]:
    files = {module_name(path): path for path in source_files()}
    graph = {}
    for name, path in files.items():
        imports = _Imports(set(files))
        imports.visit(parsed(path))
        graph[name] = imports.found
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan, 1972), and self-loops."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for successor in sorted(graph[node]):
            if successor not in index:
                connect(successor)
                low[node] = min(low[node], low[successor])
            elif successor in stack:
                low[node] = min(low[node], index[successor])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1 or node in graph[node]:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            connect(node)
    return found


def test_modules_import_in_no_cycle() -> None:
    assert not cycles(import_graph())


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert cycles(graph) == [["b", "c"], ["e"]]
