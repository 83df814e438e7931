"""What is said of optional packages that are missing, broken, or lack a package of their own."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest

import auricle
from auricle.errors import MissingExtraError
from auricle.optional import EXTRAS, INSTALL_NAMES, missing_extra, missing_module, optional

SOURCES = Path(auricle.__file__).parent

ALWAYS_THERE = {
    "auricle", "filelock", "httpx", "huggingface_hub", "msgspec", "numpy", "platformdirs",
    "pyarrow", "safetensors", "soundfile", "soxr", "tomli", "torch", "tqdm", "yaml",
}  # fmt: skip
"""What the library requires, and itself."""

AFTER_A_CHECK = {
    "audio/ffmpeg.py": "it goes on without torchcodec",
    "checkpoints/onnx.py": "check_packages has imported them under the guard then",
    "corpus/kaldi_lhotse.py": "lhotse has been imported under the guard then",
    "store/folder.py": "fsspec has been imported then",
}
"""Files that import an optional package without a guard, and why they may."""


def install(folder: Path, name: str, text: str) -> None:
    """Write a module to be imported."""
    (folder / f"{name}.py").write_text(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, whose modules are forgotten at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "modules", sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(package: str) -> MissingExtraError:
    """The error of importing a package by the guard."""
    with pytest.raises(MissingExtraError) as caught, optional(package, "drawing"):
        import_module(package)
    return caught.value


def test_a_package_that_is_not_there_is_named() -> None:
    error = refusal("nowhere_at_all")
    assert str(error) == (
        "drawing needs nowhere_at_all, which is not installed; run pip install nowhere_at_all"
    )
    assert error.name == "nowhere_at_all"
    assert isinstance(error.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    "text",
    [
        "import lacking.part",
        "from lacking import something",
        # As many libraries do, with the cause, and in the handler without it.
        "try:\n    import lacking\nexcept ImportError as e:\n    raise ImportError('get it') from e",
        "try:\n    import lacking\nexcept ImportError:\n    raise ImportError('get it')",
        "try:\n    import lacking\nexcept ImportError as e:\n    raise RuntimeError('no') from e",
    ],
)
def test_a_package_that_lacks_another_names_the_other(packages: Path, text: str) -> None:
    install(packages, "there", text)
    error = refusal("there")
    assert "needs there, which is installed but does not work without lacking" in str(error)
    assert str(error).endswith("run pip install lacking")
    assert error.name == "lacking"


def test_the_first_of_two_alternatives_is_not_blamed(packages: Path) -> None:
    install(packages, "there", "try:\n    import fast\nexcept ImportError:\n    import slow")
    assert refusal("there").name == "slow"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('libx.so: cannot open')", "ImportError: libx.so: cannot open"),
        ("raise ValueError('numpy.dtype size changed')", "ValueError: numpy.dtype size changed"),
        ("from os import nothing_like_it", "ImportError: cannot import name 'nothing_like_it'"),
        ("import os\nos.nothing_like_it", "AttributeError: module 'os' has no attribute"),
        ("raise OSError('no\\nlibrary')", "OSError: no library"),
    ],
)
def test_a_package_that_fails_otherwise_is_not_called_missing(
    packages: Path, text: str, reason: str
) -> None:
    install(packages, "there", text)
    error = refusal("there")
    assert f"is installed but fails ({reason}" in str(error)
    assert "not installed" not in str(error)
    assert "pip install --upgrade there" in str(error)
    assert error.__cause__ is not None


def test_names_that_pip_has_otherwise_are_given() -> None:
    lacks = ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    assert str(missing_extra("sklearn", "probing", lacks)).endswith(
        "; run pip install scikit-learn, or pip install '.[probe]' in auricle's clone"
    )


def test_the_extras_install_the_packages_that_they_are_named_for() -> None:
    import msgspec

    project = msgspec.toml.decode((SOURCES.parents[1] / "pyproject.toml").read_bytes())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)
    for module, extra in EXTRAS.items():
        if module != "starlette":  # Gradio brings it
            name = INSTALL_NAMES.get(module, module)
            assert any(one.startswith(f"{name}>") for one in extras[extra])


def test_a_folder_of_the_same_name_is_no_package(packages: Path) -> None:
    (packages / "corpus_of_mine").mkdir()
    assert "a folder of that name is imported in its place" in str(refusal("corpus_of_mine"))


def test_errors_without_a_missing_module_have_none() -> None:
    assert missing_module(ValueError("x")) is None
    assert missing_module(None) is None


def test_optional_packages_are_imported_by_the_guard_alone() -> None:
    stray = []
    for path in SOURCES.rglob("*.py"):
        name = str(path.relative_to(SOURCES))
        if name in (*AFTER_A_CHECK, "optional.py"):
            continue
        tree = ast.parse(path.read_text())
        guarded = {
            id(node) for block in ast.walk(tree) if is_guard(block) for node in ast.walk(block)
        }
        stray += [
            f"{name}: {package}"
            for node in ast.walk(tree)
            if id(node) not in guarded
            for package in imported(node)
            if package not in ALWAYS_THERE and package not in sys.stdlib_module_names
        ]
    assert not stray


def is_guard(node: ast.AST) -> bool:
    """Whether a block imports what is optional by the guard, or for the type checker alone."""
    if isinstance(node, ast.With):
        return any(
            isinstance(item.context_expr, ast.Call)
            and getattr(item.context_expr.func, "id", "") == "optional"
            for item in node.items
        )
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imported(node: ast.AST) -> list[str]:
    """The packages that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []
