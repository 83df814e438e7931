from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.info import FrameGeometry, Window
from auricle.nn.conv import reflect_pad
from auricle.nn.cpu import policy
from auricle.nn.cpu.policy import HaloChunk, halo_chunks

CHAINS = {
    "no padding": (Window(size=10, stride=5), Window(size=3, stride=2), Window(size=2)),
    "both ends": (
        Window(size=9, pad_left=4, pad_right=4),
        Window(size=6, stride=3, pad_left=2, pad_right=3),
        Window(size=5, pad_left=2, pad_right=2),
        Window(size=4, stride=2, pad_left=1, pad_right=2),
    ),
    "even kernels": (Window(size=2, pad_right=1), Window(size=4, pad_left=1, pad_right=2)),
    "past alone": (Window(size=7, pad_left=6),),
    "steps beyond the window": (Window(size=2, stride=5), Window(size=1, stride=3)),
}
LENGTHS = [400, 61, 399, 203, 399]


def layers(windows: tuple[Window, ...], x: Tensor, lengths: list[int]) -> list[Tensor]:
    """A convolution for each window over ends that are mirrored, or zero before the past alone."""
    generator = torch.Generator().manual_seed(0)
    outputs = []
    for window in windows:
        if window.pad_right:
            x = reflect_pad(x, lengths, left=window.pad_left, right=window.pad_right)
        else:
            x = F.pad(x, (window.pad_left, 0))
        weight = torch.randn(3, x.shape[1], window.size, generator=generator, dtype=x.dtype)
        x = F.conv1d(x, weight, stride=window.stride).tanh()
        lengths = [FrameGeometry((window,)).num_frames(length) for length in lengths]
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("windows", CHAINS.values(), ids=CHAINS.keys())
@pytest.mark.parametrize("frames_at_once", [1, 2, 7, 30])
def test_cuts_give_every_layer_of_every_utterance(
    monkeypatch: pytest.MonkeyPatch, windows: tuple[Window, ...], frames_at_once: int
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", frames_at_once)
    x = torch.randn(len(LENGTHS), 2, max(LENGTHS), dtype=torch.float64)
    for row, length in zip(x, LENGTHS, strict=True):
        row[:, length:] = 7.0
    geometries = [FrameGeometry(windows[:depth]) for depth in range(1, len(windows) + 1)]
    whole = layers(windows, x, LENGTHS)
    outputs = [torch.zeros_like(layer) for layer in whole]
    with torch.inference_mode():
        parts = halo_chunks(LENGTHS, geometries[-1], 1, ())
    assert parts[0].frames.stop == min(frames_at_once, geometries[-1].num_frames(max(LENGTHS)))
    for part in parts:
        piece = part.of(x)
        assert max(part.lengths) == piece.shape[2]
        cut_layers = layers(windows, piece, part.lengths)
        for output, layer, geometry in zip(outputs, cut_layers, geometries, strict=True):
            part.write(output, part.own(layer, geometry.hop_samples), geometry.hop_samples)
    for output, layer, geometry in zip(outputs, whole, geometries, strict=True):
        for ours, theirs, length in zip(output, layer, LENGTHS, strict=True):
            count = geometry.num_frames(length)
            torch.testing.assert_close(ours[:, :count], theirs[:, :count], atol=1e-12, rtol=0)


def test_a_cut_takes_what_its_frames_see_and_little_more() -> None:
    geometry = FrameGeometry((Window(size=10, stride=5), Window(size=3, stride=2)))
    with torch.inference_mode():
        parts = halo_chunks([1_000_000], geometry, 1 << 20, ())
    assert len(parts) > 1000
    assert [part.frames.start for part in parts[1:]] == [part.frames.stop for part in parts[:-1]]
    middle = parts[500]
    assert middle.inputs == slice(
        middle.frames.start * 10, middle.frames.stop * 10 + geometry.window_samples
    )
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].inputs.stop == 1_000_000


def test_utterances_that_have_ended_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 10)
    with torch.inference_mode():
        first, second = halo_chunks([20, 9], FrameGeometry((Window(size=1),)), 1, ())
    assert (first.rows, first.lengths) == ([0, 1], [11, 9])
    assert (second.rows, second.lengths) == ([0], [10])
    x = torch.arange(40.0).view(2, 1, 20)
    assert first.of(x).data_ptr() == x.data_ptr()
    assert torch.equal(second.of(x), x[:1, :, 10:])


def test_the_first_cut_is_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 2)

    def starts(parts: list[HaloChunk]) -> list[int]:
        return [part.frames.start for part in parts]

    with torch.inference_mode():
        geometry = FrameGeometry((Window(size=1),))
        assert starts(halo_chunks([7], geometry, 1, ())) == [0, 2, 4, 6]
        assert starts(halo_chunks([7], geometry, 1, (), min_frames=3)) == [0, 3, 6]
        assert starts(halo_chunks([7], geometry, 1, (), min_frames=50)) == [0]


def test_gradients_take_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1)
    (part,) = halo_chunks([50, 20], FrameGeometry((Window(size=3),)), 100, ())
    assert part.inputs == slice(0, 50)
    assert part.is_last
