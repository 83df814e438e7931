"""The stores that the tests of stores write."""

from __future__ import annotations

from store.conftest import hostile_ids, make_items, make_meta

__all__ = ["hostile_ids", "make_items", "make_meta"]
