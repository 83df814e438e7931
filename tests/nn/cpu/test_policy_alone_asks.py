"""Only `nn/cpu` asks which device computes, and whether autograd, a compiler or a hook watches."""

from __future__ import annotations

import ast
from pathlib import Path

import auricle

PACKAGE = Path(auricle.__file__).parent
FOLDERS = ("nn", "models", "inference", "objectives")
ASKED = {
    "infers_on_cpu",
    "is_compiling",
    "get_eval_frame_callback",
    "_are_functorch_transforms_active",
}
"""Names that only the policy uses: others ask it for the decision that follows."""

INT8 = "approximate.py"
"""Refuses int8 on other devices, which is an error of the caller's and no choice of kernels."""


def questions(tree: ast.AST) -> list[int]:
    """Lines that compare a device's type with "cpu", or use what only the policy uses."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            is_type = any(isinstance(one, ast.Attribute) and one.attr == "type" for one in sides)
            is_cpu = any(isinstance(one, ast.Constant) and one.value == "cpu" for one in sides)
            if is_type and is_cpu:
                lines.append(node.lineno)
        elif (isinstance(node, ast.Attribute) and node.attr in ASKED) or (
            isinstance(node, ast.ImportFrom) and ASKED & {name.name for name in node.names}
        ):
            lines.append(node.lineno)
    return lines


def test_the_policy_alone_asks() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for folder in FOLDERS
        for path in PACKAGE.glob(f"{folder}/**/*.py")
        if "cpu" not in path.relative_to(PACKAGE).parts and path.name != INT8
        if (lines := questions(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert not found
    policy = ast.parse((PACKAGE / "nn/cpu/policy.py").read_text(encoding="utf-8"))
    assert questions(policy)
