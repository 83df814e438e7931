from __future__ import annotations

from collections.abc import Callable

import pytest

from auricle.errors import MissingExtraError, OutputError
from auricle.extraction.formats.registry import FORMAT_NAMES, open_format
from auricle.extraction.store.layout import StoreMeta


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_formats_are_what_they_are_called(name: str, make_meta: Callable[..., StoreMeta]) -> None:
    form = open_format(make_meta(format=name))
    assert form.name == name
    assert form.suffix.startswith(".")


def test_an_unknown_format_lists_those_there_are(make_meta: Callable[..., StoreMeta]) -> None:
    with pytest.raises(OutputError, match="no format 'csv'; choose one of .*'kaldi'"):
        open_format(make_meta(format="csv"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "bfloat16") for name in FORMAT_NAMES if name != "store"]
    + [("kaldi", "float16"), ("kaldi", "int64"), ("store", "float64")],
)
def test_types_that_a_format_lacks_are_refused_before_any_work(
    name: str, dtype: str, make_meta: Callable[..., StoreMeta]
) -> None:
    with pytest.raises(OutputError, match=f"{name} has no {dtype}; choose one of float32"):
        open_format(make_meta(format=name, dtype=dtype))


@pytest.mark.parametrize(("name", "package"), [("kaldi", "kaldiio"), ("hdf5", "h5py")])
def test_a_missing_package_is_named_before_any_work(
    name: str, package: str, make_meta: Callable[..., StoreMeta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=f"needs {package}.*run pip install {package}"):
        open_format(make_meta(format=name))
