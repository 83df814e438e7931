from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from auricle.nn.layers import reaching


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_parameter_that_is_not_used_is_reached_without_a_gradient(process_group: None) -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    reached = []
    unused.register_post_accumulate_grad_hook(lambda _: reached.append(1))
    x = used * 2
    y = reaching(x, [used, unused])
    assert torch.equal(y, x)
    assert {one[0] for one in y.grad_fn.next_functions if one[0]} > {x.grad_fn}
    y.sum().backward()
    assert used.grad.tolist() == [2.0, 2.0]
    assert unused.grad is None


def test_without_processes_nothing_is_added() -> None:
    used = nn.Parameter(torch.ones(2))
    x = used * 2
    assert reaching(x, [used]) is x


def test_without_gradients_nothing_is_added(process_group: None) -> None:
    x = torch.ones(2)
    assert reaching(x, [nn.Parameter(torch.ones(1))]) is x
