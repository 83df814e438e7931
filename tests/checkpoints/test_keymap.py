from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auricle.checkpoints.keymap import KeyMap, Renamed, has_part
from auricle.errors import CheckpointError

KEYMAP = KeyMap(
    (
        ("layers.{i}.self.{rest}", "stack.{i}.attention.{rest}"),
        ("norm.{rest}", "norm.{rest}"),
        ("older.{rest}", "norm.{rest}"),
    ),
    pretraining=("layers.{i}.mask", "head.{rest}"),
)
OURS = ("stack.0.attention.q.weight", "stack.10.attention.q.weight", "norm.weight")
EXPECTED = {name: torch.empty(2, device="meta") for name in OURS}
THEIRS = ("layers.0.self.q.weight", "layers.10.self.q.weight", "norm.weight")


def weights(prefix: str = "", seed: int = 0, names: tuple[str, ...] = THEIRS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {prefix + name: torch.randn(2, generator=generator) for name in names}


def located(*parts: dict[str, Tensor]) -> Renamed:
    held = {key: weight for part in parts for key, weight in part.items()}
    found = KEYMAP.locate(held, EXPECTED)
    for name, original in found.originals.items():
        assert torch.equal(found.weights[name], held[original])
    return found


def test_every_key_is_renamed_dropped_or_unknown() -> None:
    extra = dict.fromkeys(
        ("head.bias", "layers.3.mask", "extra", "layers.x.self.q"), torch.zeros(1)
    )
    found = located(weights(), extra)
    assert found.originals == dict(zip(OURS, THEIRS, strict=True))
    assert found.dropped == ("head.bias", "layers.3.mask", "extra")
    assert found.unfamiliar == ("extra",)
    assert found.unknown == ("layers.x.self.q",)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_fsdp_wrapped_module.",
        "_forward_module.",
        "model.",
        "net.wav2vec2.",
        "layers.0.",
        "norm.",
        "of.my.own.",
        "Upstream.model.",
    ],
)
def test_a_shared_prefix_is_found_whatever_it_is(prefix: str) -> None:
    outside = {"lm_head.weight": torch.zeros(1), f"x{prefix}norm.weight": torch.zeros(2)}
    found = located(weights(prefix), outside)
    assert found.originals == {
        ours: prefix + theirs for ours, theirs in zip(OURS, THEIRS, strict=True)
    }
    assert found.dropped == tuple(outside)
    assert not found.unknown


def test_wrappers_in_the_middle_of_keys() -> None:
    names = (
        "_fsdp_wrapped_module.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.self.q.weight",
        "_fsdp_wrapped_module.layers.10._orig_mod.self.module.q.weight",
        "_fsdp_wrapped_module.norm.module.weight",
    )
    found = located(weights(names=names))
    assert tuple(found.originals.values()) == names
    assert not found.dropped + found.unknown


def test_old_names_of_norms() -> None:
    found = located(weights(names=("layers.0.self.q.gamma", *THEIRS[1:2], "norm.gamma")))
    assert set(found.weights) == set(OURS)


def test_the_encoder_that_is_whole_is_the_one() -> None:
    part = weights("teacher.", 1, THEIRS[1:])
    found = located(part, weights("student."))
    assert set(found.originals.values()) == {f"student.{name}" for name in THEIRS}
    assert found.dropped == tuple(part)
    # A deeper or wider one is not meant either: the configuration says so.
    deeper = weights("teacher.", 1) | {"teacher.layers.11.self.q.weight": torch.zeros(2)}
    assert located(deeper, weights("student.")).prefix == "student."
    wider = {key: torch.zeros(3) for key in weights("teacher.")}
    assert located(wider, weights("student.")).prefix == "student."


def test_two_whole_encoders_are_ambiguous_unless_they_are_the_same() -> None:
    with pytest.raises(CheckpointError, match=r"2 whole encoders .* under 'model', 'teacher', and"):
        located(weights("model."), weights("teacher.", seed=1))
    with pytest.raises(CheckpointError, match="under no prefix, 'other', and nothing says which"):
        located(weights(), weights("other.", seed=1))
    with pytest.raises(CheckpointError, match="under 'ema', 'b_ema', and nothing says which"):
        located(weights("ema."), weights("b_ema.", seed=1))
    assert located(weights("model."), weights("model._ema.", seed=1)).prefix == "model."
    found = located(weights("model.encoder."), weights("encoder."))
    assert found.prefix == "encoder."
    assert len(found.dropped) == 3


@pytest.mark.parametrize("plain", ["", "model.", "state_dict.model.", "online_model."])
@pytest.mark.parametrize(
    "average", ["ema.", "model_ema.", "ema_state_dict.model.", "state_dict_ema.", "averaged_model."]
)
def test_the_weights_themselves_come_before_their_moving_average(plain: str, average: str) -> None:
    found = located(weights(average, seed=1), weights(plain))
    assert (found.prefix, found.averages) == (plain, (average,))
    assert set(found.dropped) == set(weights(average))
    alone = located(weights(average, seed=1))
    assert (alone.prefix, alone.averages) == (average, ())
    assert located(weights(plain), weights(average)).averages == ()  # the same


def test_several_keys_for_one_weight_must_agree() -> None:
    same = weights()["norm.weight"]
    assert not located(weights(), {"older.weight": same}).dropped
    with pytest.raises(
        CheckpointError, match=r"norm\.weight and older\.weight both .* they differ"
    ):
        located(weights(), {"older.weight": same + 1})


def test_a_part_of_an_encoder_is_the_largest_there_is() -> None:
    found = located(weights("a.", names=THEIRS[:1]), weights("b.", names=THEIRS[1:]))
    assert found.prefix == "b."
    assert set(found.weights) == set(OURS[1:])
    assert not located({"oldXa": torch.zeros(1)}).weights
    assert not located(weights("norm." * 100_000)).weights


def test_a_table_without_renames_keeps_names() -> None:
    held = {f"module.encoder.{name}": torch.ones(2) for name in OURS}
    found = KeyMap(()).locate({**held, "head.weight": torch.ones(1)}, EXPECTED)
    assert found.originals == dict(zip(OURS, held, strict=True))
    assert found.dropped == ("head.weight",)


def test_names_lead_back_to_originals() -> None:
    assert KEYMAP.original("stack.3.attention.k.bias") == "layers.3.self.k.bias"
    assert KEYMAP.original("norm.a") == "norm.a"
    assert KEYMAP.original("other") == "other"


def test_parts_of_keys() -> None:
    keys = ("a.module.conv.0.weight", "b")
    assert has_part(keys, "conv", "0")
    assert has_part(keys, "a", "conv")
    assert has_part(keys, "b")
    assert not has_part(keys, "onv", "0")
    assert not has_part(keys, "conv", "1")


ONE, TWO = torch.ones(1), torch.ones(2)


def test_one_original_holds_several_weights_in_its_rows() -> None:
    table = KeyMap([("b.{i}.qkv.{rest}", "layers.{i}.{query,key,value}.{rest}")])
    fused = torch.arange(18.0).view(6, 3)
    expected = {f"layers.0.{part}.weight": torch.zeros(2, 3) for part in ("query", "key", "value")}
    found = table.locate({"model.b.0.qkv.weight": fused}, expected)
    assert [weight.tolist() for weight in found.weights.values()] == [
        part.tolist() for part in fused.chunk(3)
    ]
    assert set(found.originals.values()) == {"model.b.0.qkv.weight"}
    assert (found.prefix, found.dropped, found.unknown) == ("model.", (), ())
    assert table.original("layers.3.key.bias") == "b.3.qkv.bias"
    uneven = table.locate({"b.0.qkv.weight": torch.zeros(5, 3)}, expected)
    assert {weight.shape for weight in uneven.weights.values()} == {(5, 3)}
    both = {"b.0.qkv.weight": fused, "b.0.qkv.bias": torch.zeros(6)}
    assert table.locate(both, expected).unknown == ("b.0.qkv.bias",)
