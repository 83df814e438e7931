from __future__ import annotations

import torch

from auricle.convert.keymap import KeyMap

KEYMAP = KeyMap(
    (
        ("layers.{i}.self.{rest}", "stack.{i}.attention.{rest}"),
        ("old.{rest}", "new.{rest}"),
        ("older.{rest}", "new.{rest}"),
    ),
    pretraining=("head.{rest}",),
)


def apply(*keys: str) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    renamed = KEYMAP.apply({key: torch.zeros(1) for key in keys})
    assert set(renamed.weights) == set(renamed.originals)
    return renamed.originals, renamed.dropped, renamed.unknown


def test_every_key_is_renamed_dropped_or_unknown() -> None:
    assert apply("layers.10.self.q.weight", "head.bias", "extra", "layers.x.self.q") == (
        {"stack.10.attention.q.weight": "layers.10.self.q.weight"},
        ("head.bias",),
        ("extra", "layers.x.self.q"),
    )


def test_dots_are_dots_and_matches_are_whole() -> None:
    assert apply("oldXa", "prefix.old.a", "old.")[2] == ("oldXa", "prefix.old.a", "old.")


def test_two_originals_never_overwrite_each_other() -> None:
    assert apply("old.a", "older.a") == ({"new.a": "old.a"}, (), ("older.a",))


def test_names_lead_back_to_originals() -> None:
    assert KEYMAP.original("stack.3.attention.k.bias") == "layers.3.self.k.bias"
    assert KEYMAP.original("new.a") == "old.a"
    assert KEYMAP.original("other") == "other"
