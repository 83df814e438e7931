"""Encoders without memory."""

from __future__ import annotations

import subprocess
import sys

import torch

import auricle
from auricle.checkpoints.skeletons import skeleton


def test_it_has_the_shapes_of_the_encoder_and_no_memory() -> None:
    encoder = auricle.build("apc")
    bare = skeleton(type(encoder), encoder.config)
    assert bare.info.dims == encoder.info.dims
    assert {weight.device.type for weight in bare.state_dict().values()} == {"meta"}
    shapes = {name: weight.shape for name, weight in encoder.state_dict().items()}
    assert {name: weight.shape for name, weight in bare.state_dict().items()} == shapes


def test_random_state_is_left_alone() -> None:
    encoder = auricle.build("apc")
    before = torch.get_rng_state()
    skeleton(type(encoder), encoder.config)
    assert torch.equal(torch.get_rng_state(), before)


def test_pytorch_does_not_import_its_compiler_for_it() -> None:
    code = (
        "import sys, torch\n"
        "from auricle.checkpoints.skeletons import skeleton\n"
        "from auricle.catalogue.family import FAMILIES\n"
        # PASE computes its first filters, small ones, by powers.
        "for family in FAMILIES.values():\n"
        "    if family.stem != 'pase':\n"
        "        config = next(iter(family.presets().values()))\n"
        "        skeleton(family.build, config)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
