"""The trainers of Hugging Face and Lightning, as docs/pytorch.md shows them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"

FENCE = re.compile(r"```(python|py)\n(.*?)```", re.DOTALL)


def run_page(package: str) -> dict[str, Any]:
    """Execute the page's code up to the end of the block that imports a package."""
    names: dict[str, Any] = {"__name__": "page"}
    for language, code in FENCE.findall(PAGE.read_text()):
        is_last = language == "py" and package in code
        if language == "python" or is_last:
            before = (
                {name: x.clone() for name, x in names["model"].state_dict().items()}
                if is_last
                else {}
            )
            exec(compile(code, str(PAGE), "exec"), names)
        if is_last:
            names["before"] = before
            return names
    raise AssertionError(f"{PAGE.name} has no block with {package}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", ["transformers", "pytorch_lightning"])
def test_a_trainer_changes_encoder_and_head(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names = run_page(package)
    after = names["model"].state_dict()
    for part in ("encoder.rnn.", "featurizer.weights", "head."):
        changed = [
            not torch.equal(x, after[name].cpu())
            for name, x in names["before"].items()
            if name.startswith(part)
        ]
        assert changed
        assert any(changed)
