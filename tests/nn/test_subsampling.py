from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from auricle.nn.cpu import policy
from auricle.nn.subsampling import (
    Reflecting,
    ReflectingConfig,
    Striding,
    StridingConfig,
    Subsampling,
    mirrored,
)

BANDS = 24
MODULES: dict[str, Any] = {
    "separable": lambda: Striding(StridingConfig(channels=5), BANDS),
    "whole": lambda: Striding(StridingConfig(factor=4, channels=5, is_separable=False), BANDS),
    "wide": lambda: Striding(StridingConfig(factor=2, channels=3, kernel_size=5), BANDS),
    "reflecting": lambda: Reflecting(ReflectingConfig(channels=(6, 4)), BANDS),
    "wide reflecting": lambda: Reflecting(
        ReflectingConfig(channels=(6, 3, 2), kernel_sizes=(5, 1, 3), strides=(2, 1, 2)), BANDS
    ),
}
every_module = pytest.mark.parametrize("name", MODULES)


def made(name: str) -> Subsampling:
    torch.manual_seed(0)
    module: Subsampling = MODULES[name]().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def reference(module: Subsampling, x: Tensor) -> Tensor:
    """Frames (T, D) of one spectrum (T, M), by the formulas."""
    y = x[None, None]
    if isinstance(module, Striding):
        half = module.config.kernel_size // 2
        for index, conv in enumerate(module.convs):
            groups = y.shape[1] if index and module.config.is_separable else 1
            y = F.conv2d(y, conv.weight, conv.bias, stride=2, padding=half, groups=groups)
            if index and module.config.is_separable:
                pointwise = module.pointwise[index - 1]
                y = F.conv2d(y, pointwise.weight, pointwise.bias)
            y = y.clamp(min=0)
        return torch.cat(list(y[0]), dim=1)  # channel after channel
    assert isinstance(module, Reflecting)
    y = y.transpose(2, 3)  # the weights have bands first
    for conv, norm in zip(module.convs, module.norms, strict=True):
        half = conv.weight.shape[2] // 2
        if half:
            y = F.pad(y, (half, half, half, half), mode="reflect")
        y = F.conv2d(y, conv.weight, conv.bias, stride=conv.stride)
        frames = y[0].permute(2, 1, 0)  # (T, M, C), over all of which but T the norm is
        mean = frames.mean((1, 2), keepdim=True)
        variance = frames.var((1, 2), correction=0, keepdim=True)
        frames = (frames - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias
        y = torch.where(frames > 0, frames, 0.01 * frames).permute(2, 1, 0)[None]
    return y[0].permute(2, 1, 0).flatten(1)


@every_module
def test_frames_are_those_of_the_formulas_in_any_batch(name: str) -> None:
    module = made(name)
    lengths = [37, 12, 61, 9]
    spectra = [torch.randn(length, BANDS) for length in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(spectra, batch_first=True, padding_value=3.0)
    with torch.no_grad():
        expected = [reference(module, one) for one in spectra]
        together = module(padded, lengths)
        traced = module(padded, torch.tensor(lengths))
        for row, (spectrum, frames) in enumerate(zip(spectra, expected, strict=True)):
            count = module.geometry.num_frames(len(spectrum))
            assert frames.shape == (count, module.dim)
            alone = module(spectrum[None], [len(spectrum)])[0]
            for output in (alone, together[row, :count], traced[row, :count]):
                torch.testing.assert_close(output, frames, rtol=1e-5, atol=1e-5)


@every_module
def test_parts_of_a_long_utterance_give_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = made(name)
    lengths = [403, 150]
    x = torch.randn(2, 403, BANDS)
    with torch.no_grad():
        whole = module(x, lengths)
        calls: list[int] = []
        convolve = module.convolve

        def counted(index: int, x: Tensor, lengths: Any) -> Tensor:
            calls.append(index)
            return convolve(index, x, lengths)

        monkeypatch.setattr(module, "convolve", counted)
        monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 1 << 13)
        in_parts = module(x, lengths)
    assert calls.count(0) > 2
    for row, length in enumerate(lengths):
        count = module.geometry.num_frames(length)
        torch.testing.assert_close(in_parts[row, :count], whole[row, :count], rtol=1e-5, atol=1e-5)


def test_gradients_pass_through_padding() -> None:
    module = made("reflecting").train()
    x = torch.randn(2, 30, BANDS, requires_grad=True)
    module(x, [30, 17])[1, :4].sum().backward()
    assert x.grad is not None
    assert x.grad[1, 17:].abs().max() == 0
    assert x.grad[1, :17].abs().min(1).values.max() > 0


def test_ends_are_mirrored() -> None:
    x = torch.arange(12.0).view(1, 1, 6, 2)
    x = torch.cat([x, x])
    rows = mirrored(x, [6, 4], 1)[:, 0, :, 1]
    assert rows[0].tolist() == [2, 0, 2, 4, 6, 8, 10, 8]
    assert rows[1, :6].tolist() == [2, 0, 2, 4, 6, 4]
    assert mirrored(x, [6, 4], 0) is x


def test_impossible_options_are_refused() -> None:
    for options in ({"factor": 3}, {"factor": 1}, {"factor": 128}):
        with pytest.raises(ValueError, match="factor must be a power of 2"):
            StridingConfig(**options)
    for options in ({"channels": 0}, {"kernel_size": 4}):
        with pytest.raises(ValueError, match="kernel_size odd"):
            StridingConfig(**options)
    for sizes in ((3,), (3, 0)):
        with pytest.raises(ValueError, match="as many"):
            ReflectingConfig(kernel_sizes=sizes)
    with pytest.raises(ValueError, match="odd"):
        ReflectingConfig(kernel_sizes=(3, 4))
