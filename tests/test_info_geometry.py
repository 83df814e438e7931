from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from auricle.info import FrameGeometry, Window

windows = st.builds(
    Window,
    size=st.integers(1, 12),
    stride=st.integers(1, 6),
    pad_left=st.integers(0, 5),
    pad_right=st.integers(0, 5),
)


@given(st.lists(windows, max_size=4), st.integers(0, 600))
def test_num_frames_is_what_convolutions_give(chain: list[Window], num_samples: int) -> None:
    x = torch.zeros(1, 1, num_samples)
    for window in chain:
        if x.shape[-1] > 0:
            x = F.pad(x, (window.pad_left, window.pad_right))
        if x.shape[-1] < window.size:
            x = x[..., :0]
            break
        x = x.unfold(-1, window.size, window.stride)[..., 0]
    geometry = FrameGeometry(tuple(chain))
    assert geometry.num_frames(num_samples) == x.shape[-1]
    assert geometry.num_frames(torch.tensor([num_samples])).tolist() == [
        geometry.num_frames(num_samples)
    ]


@given(st.lists(windows, max_size=4), st.integers(1, 30))
def test_min_samples_is_the_fewest(chain: list[Window], num_frames: int) -> None:
    geometry = FrameGeometry(tuple(chain))
    fewest = geometry.min_samples(num_frames)
    assert geometry.num_frames(fewest) >= num_frames
    assert fewest == 1 or geometry.num_frames(fewest - 1) < num_frames


@given(st.lists(windows, min_size=1, max_size=4), st.integers(0, 20))
def test_a_frame_depends_on_its_span_alone(chain: list[Window], frame: int) -> None:
    geometry = FrameGeometry(tuple(chain))
    num_samples = geometry.min_samples(frame + 1) + 3
    x = torch.zeros(num_samples, requires_grad=True)
    y = x.view(1, 1, -1)
    for window in chain:
        y = F.pad(y, (window.pad_left, window.pad_right))
        y = F.conv1d(y, torch.ones(1, 1, window.size), stride=window.stride)
    (gradient,) = torch.autograd.grad(y[0, 0, frame], x)
    seen = gradient.nonzero().flatten().tolist()
    start = geometry.start_samples + frame * geometry.hop_samples
    end = start + geometry.window_samples
    assert all(start <= sample < end for sample in seen)
    if start >= 0 and end <= num_samples:
        assert seen[:1] == [start]
        assert seen[-1:] == [end - 1]


def test_frame_rule_tells_equal_counts() -> None:
    frames = FrameGeometry((Window(size=400, stride=160),))
    same = frames.then(Window(size=15, pad_left=7, pad_right=7))
    assert same.frame_rule == frames.frame_rule
    assert frames.then(Window(size=15)).frame_rule != frames.frame_rule


def test_a_window_without_extent_is_refused() -> None:
    for wrong in ({"size": 0}, {"size": 1, "stride": 0}, {"size": 1, "pad_left": -1}):
        with pytest.raises(ValueError, match="a window needs"):
            Window(**wrong)
