"""The tables of docs/sizing.md are computed, and are what the tool would write."""

from __future__ import annotations

from pathlib import Path

import pytest
import sizing

import auricle


def test_the_page_is_current() -> None:
    assert sizing.PAGE.read_text() == sizing.expected(), "run python tools/sizing.py"


@pytest.mark.parametrize("size", ["apc", "wav2vec2_base_960", "pase_plus"])
def test_shapes_are_those_that_an_encoder_gives(size: str) -> None:
    layers = sizing.layers_of(size)
    encoder = auricle.build(size)
    num_samples = 4 * sizing.SAMPLE_RATE
    for name, (rate, dim) in layers.shapes.items():
        assert encoder.info.dims[name] == dim
        assert encoder.num_frames(num_samples, name) == pytest.approx(4 * rate, abs=2)
    assert encoder.default_layer == layers.default


def test_bytes_are_frames_by_columns_by_the_size_of_a_value() -> None:
    layers = sizing.Layers(default="a", shapes={"a": (50.0, 768), "b": (100.0, 10)})
    assert layers.bytes_per_hour(["a"], "float16") == 50 * 768 * 2 * 3600
    assert layers.bytes_per_hour(["a", "b"], "float32") == (50 * 768 + 100 * 10) * 4 * 3600


def test_cost_is_hours_by_rate_and_says_what_is_not_measured() -> None:
    (row,) = (
        line for line in sizing.cost_table({"apc": {"cpu": 40}}).splitlines() if "`apc`" in line
    )
    assert row == "| `apc` | 40.0 | 2,500 | not measured here | 100,000 / rate |"


def test_check_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "sizing.md"
    marks = "".join(
        f"<!-- {name}: `python tools/sizing.py` -->\n\n<!-- /{name} -->\n"
        for name in ("storage", "cost")
    )
    page.write_text(marks)
    monkeypatch.setattr(sizing, "PAGE", page)
    monkeypatch.setattr(sizing, "expected", lambda: marks + "more")
    with pytest.raises(SystemExit, match="not current"):
        sizing.main(["--check"])
    assert page.read_text() == marks
    sizing.main([])
    sizing.main(["--check"])
