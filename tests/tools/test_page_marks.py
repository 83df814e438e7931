"""Only what is between the marks of a page changes."""

from __future__ import annotations

import pytest
from page_marks import with_contents

PAGE = "a\n<!-- x: `tool` -->\nold\n<!-- /x -->\nb\n<!-- y: `tool` -->\n\n<!-- /y -->\n"


def test_what_is_between_the_marks_changes() -> None:
    new = with_contents(PAGE, {"x": r"one \1", "y": "two"}, "tool")
    assert new == PAGE.replace("old", r"one \1").replace("\n\n<!-- /y", "\ntwo\n<!-- /y")
    assert with_contents(new, {"x": r"one \1"}, "tool") == new


@pytest.mark.parametrize(
    "page", ["no mark", "<!-- x: `tool` -->\nno end", PAGE.replace("tool", "t")]
)
def test_a_page_without_the_marks_is_an_error(page: str) -> None:
    with pytest.raises(SystemExit, match="no place between"):
        with_contents(page, {"x": "new"}, "tool")
