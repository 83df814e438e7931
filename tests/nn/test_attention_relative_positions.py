from __future__ import annotations

import math

import pytest
import torch

from auricle.nn.attention import RelativePositionBias, RelativePositionConfig


def bucket(offset: int, config: RelativePositionConfig) -> int:
    """WavLM, section III-A: near distances one by one, far ones by their logarithm."""
    per_direction = config.num_buckets // 2
    num_exact = per_direction // 2
    distance = abs(offset)
    if distance >= num_exact:
        growth = math.log(distance / num_exact) / math.log(config.max_distance / num_exact)
        distance = min(
            per_direction - 1, math.floor(num_exact + growth * (per_direction - num_exact))
        )
    return distance + (per_direction if offset > 0 else 0)


@pytest.mark.parametrize(
    "config",
    [RelativePositionConfig(num_buckets=13, max_distance=30), RelativePositionConfig()],
)
@pytest.mark.parametrize("num_frames", [1, 2, 5, 70])
def test_bias_of_every_pair(config: RelativePositionConfig, num_frames: int) -> None:
    bias = RelativePositionBias(config, num_heads=3)
    with torch.no_grad():
        output = bias(num_frames).flip(1)
    assert output.shape == (3, num_frames, num_frames)
    for query in range(num_frames):
        for key in range(num_frames):
            expected = bias.table.weight[bucket(key - query, config)]
            assert torch.equal(output[:, query, key], expected)


def test_far_distances_share_the_last_bucket() -> None:
    config = RelativePositionConfig(num_buckets=8, max_distance=6)
    bias = RelativePositionBias(config, num_heads=1)
    with torch.no_grad():
        bias.table.weight.copy_(torch.arange(8.0).unsqueeze(1))
        first, last = bias(40)[0, -1], bias(40)[0, 0]
    assert set(first[6:].tolist()) == {7.0}
    assert set(last[:-6].tolist()) == {3.0}


def test_configurations_that_do_not_hold_are_refused() -> None:
    for options in ({"num_buckets": 3}, {"num_buckets": 320, "max_distance": 80}):
        with pytest.raises(ValueError, match="num_buckets must be at least 4"):
            RelativePositionConfig(**options)
