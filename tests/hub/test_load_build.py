from __future__ import annotations

import pytest
import torch

import auricle
from auricle.catalogue.family import FAMILIES
from auricle.errors import AuricleError, UnknownModelError
from auricle.models.definition import Config
from auricle.models.predictive_coding import ApcConfig

SMALL = ApcConfig(hidden_size=8)


def test_every_family_has_published_sizes_whose_weights_are_set() -> None:
    sizes = auricle.list_sizes()
    assert set(sizes.values()) == set(FAMILIES)
    for name, family in sizes.items():
        assert type(FAMILIES[family].preset(name)) is FAMILIES[family].config_type()


def test_weights_are_random_by_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (auricle.build(SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not first.training
    for ours, same, different in zip(
        first.parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(ours, same)
        assert not torch.equal(ours, different)


def test_a_size_by_name_is_that_config() -> None:
    encoder = auricle.build("fbank")
    assert encoder.info.name == "fbank"


def test_random_weights_are_called_so() -> None:
    for encoder, name in ((auricle.build("apc"), "apc"), (auricle.build(SMALL), "apc")):
        assert encoder.info.name == f"{name} (random weights)"
        assert encoder.info.training_data == "none stated: built with random weights"
    assert auricle.build("fbank").info.training_data is None


def test_a_model_of_the_catalogue_names_its_size() -> None:
    assert auricle.build("mel").config == auricle.load("mel").config
    assert auricle.build("apc_360hr").info.dims["rnn_3"] == 512


def test_unknown_sizes_offer_close_matches() -> None:
    with pytest.raises(UnknownModelError, match="tera_base"):
        auricle.build("tera_bas")
    with pytest.raises(UnknownModelError, match="config of no family"):
        auricle.build(Config())


def test_shapes_alone_are_built_at_once() -> None:
    """The largest published encoder, whose weights are 26 GB, on the meta device."""
    encoder = auricle.build("omniasr_w2v_7b", device="meta")
    assert {weight.device.type for weight in encoder.parameters()} == {"meta"}
    assert encoder.info.name == "omniasr_w2v_7b (random weights)"
    # Those of the authors' table, less what served pretraining alone.
    width, channels, codes, entries = 2048, 512, 2 * 320, 1024
    heads = width + codes * entries // 2 + (channels + 1) * codes + (width + entries + 2) * entries
    assert encoder.info.num_parameters == 6_488_487_168 - heads


def test_a_device_changes_no_weight() -> None:
    first, second = auricle.build(SMALL), auricle.build(SMALL, device="cpu")
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    with pytest.raises(AuricleError, match="cannot use device 'nowhere'"):
        auricle.build(SMALL, device="nowhere")
