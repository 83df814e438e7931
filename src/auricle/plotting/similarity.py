"""How alike two representations of the same speech are: linear centred kernel alignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.geometry import FrameGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FRAMES = 1000
"""Frames that similarities are computed from at most; more are thinned out evenly."""

MIN_FRAMES = 4
"""The unbiased estimate divides by (n - 3)."""


def linear_cka(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], *, unbiased: bool = False
) -> float:
    """Linear CKA of (T, D1) and (T, D2): 1 where one is a rotation and a scaling of the other.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", arXiv:1905.00414,
    section 3. With fewer frames than dimensions its plain form is near 1 even for unrelated noise:
    `unbiased` puts Song et al.'s estimator of HSIC in its place (JMLR 13, 2012, equation 5; Nguyen
    et al., arXiv:2010.15327, section 2), whose expectation is 0 for what is unrelated, and which
    may come out a little below.

    Raises:
        ValueError: The numbers of frames differ, or are too few for the estimate.
    """
    if len(x) != len(y):
        raise ValueError(f"expected as many frames in both, got {len(x)} and {len(y)}")
    matrix = cka_matrix([x, y], unbiased=unbiased)
    return float(matrix[0, 1])


def cka_matrix(
    layers: Sequence[NDArray[np.floating[Any]]], *, unbiased: bool = False
) -> NDArray[np.float64]:
    """Linear CKA between each two of N layers (T, D_i): (N, N), see `linear_cka`.

    A layer without variance is like none, itself included: 0.

    Raises:
        ValueError: There are fewer than 4 frames and `unbiased` is asked for.
    """
    num_frames = len(layers[0])
    if unbiased and num_frames < MIN_FRAMES:
        raise ValueError(f"expected at least {MIN_FRAMES} frames, got {num_frames}")
    kernels = [_kernel(layer, unbiased) for layer in layers]
    products = np.array([[np.vdot(first, second) for second in kernels] for first in kernels])
    scale = np.sqrt(np.maximum(np.diagonal(products), 0))
    divisor = np.outer(scale, scale)
    result: NDArray[np.float64] = np.divide(
        products, divisor, out=np.zeros_like(products), where=divisor > 0
    )
    return result


def _kernel(x: NDArray[np.floating[Any]], unbiased: bool) -> NDArray[np.float64]:
    """Inner products of the frames of (T, D), centred so that products of two are their HSIC."""
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    scale = np.abs(centred).max(initial=0.0)
    if scale <= np.abs(x).max(initial=0.0) * 1e-7:  # rounding alone
        return np.zeros((len(x), len(x)))
    centred /= scale
    kernel: NDArray[np.float64] = centred @ centred.T
    if unbiased:
        # U-centring: products of two such matrices are the estimator times n (n - 3), and its
        # diagonal, in which a frame meets itself, is left out.
        count = len(x)
        np.fill_diagonal(kernel, 0)
        rows = kernel.sum(axis=1) / (count - 2)
        kernel += rows.sum() / (count - 1) - rows[:, None] - rows[None, :]
        np.fill_diagonal(kernel, 0)
    return kernel


def at_common_times(
    layers: Sequence[tuple[NDArray[np.floating[Any]], FrameGeometry]],
) -> list[NDArray[np.floating[Any]]]:
    """Frames of several layers of one utterance at the same moments, as many in each.

    The moments are the centres of the coarsest layer's frames, as far as all layers reach; each
    layer gives the frame whose centre lies nearest. Of very many an even part is taken.
    """
    centres = [
        geometry.start_samples
        + (geometry.window_samples - 1) / 2
        + np.arange(len(frames)) * geometry.hop_samples
        for frames, geometry in layers
    ]
    hops = [geometry.hop_samples for _, geometry in layers]
    coarsest = max(range(len(layers)), key=lambda index: (hops[index], -len(centres[index])))
    times = centres[coarsest]
    for own, hop in zip(centres, hops, strict=True):
        times = times[(times >= own[0] - hop / 2) & (times <= own[-1] + hop / 2)]
    times = times[:: max(-(-len(times) // MAX_FRAMES), 1)]
    aligned = []
    for (frames, _), own, hop in zip(layers, centres, hops, strict=True):
        index = np.floor((times - own[0]) / hop + 0.5).astype(int)
        aligned.append(frames[np.clip(index, 0, len(frames) - 1)])
    return aligned
