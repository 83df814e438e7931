"""Data of pictures, and its analysis: principal components, order of dimensions, linear CKA."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.corpus.utterance import Segment
from auricle.info import FrameGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Components:
    """Scores (T, num_components) of frames, and the share of the variance of each component."""

    scores: NDArray[np.float64]
    shares: tuple[float, ...]


def principal_components(x: NDArray[np.floating[Any]], num_components: int) -> Components:
    """Compute the first principal components of (T, D), whose columns have mean 0.

    Components beyond the rank are 0. The sign of each is that of its largest loading, so that it
    does not depend on the solver.
    """
    num_frames, num_dims = x.shape
    # The smaller of the two Gram matrices has the same non-zero eigenvalues.
    if num_dims <= num_frames:
        values, vectors = np.linalg.eigh(x.T @ x)
        loadings = vectors[:, ::-1][:, :num_components]
    else:
        values, vectors = np.linalg.eigh(x @ x.T)
        lengths = np.sqrt(np.maximum(values[::-1][:num_components], np.finfo(np.float64).tiny))
        loadings = x.T @ vectors[:, ::-1][:, :num_components] / lengths
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=0)[None], axis=0)
    loadings = loadings * np.where(largest < 0, -1.0, 1.0)
    values = np.maximum(values[::-1][:num_components], 0.0)
    total = float((x * x).sum())
    missing = num_components - loadings.shape[1]
    scores = np.pad(x @ loadings, ((0, 0), (0, missing)))
    shares = np.pad(values / total if total > 0 else values * 0, (0, missing))
    return Components(scores=scores, shares=tuple(float(share) for share in shares))


POWER_STEPS = 20
"""Power iterations that approximate the first principal component."""


def standardised(x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Standardise each column of (T, D) to mean 0 and variance 1; a constant column is 0."""
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    # A deviation below float32's resolution of the values is rounding: the column is constant.
    varies = deviation > np.abs(x).max(axis=0) * 1e-7
    result: NDArray[np.float64] = np.divide(
        centred, deviation, out=np.zeros_like(centred), where=varies
    )
    return result


def order_by_correlation(x: NDArray[np.float64]) -> list[int]:
    """Order the columns of standardised (T, D) so that correlated columns are neighbours.

    Greedy: starts with the column that loads most on the first principal component; each index is
    followed by the most correlated column that remains. Constant columns come last.
    """
    num_frames, num_dims = x.shape
    correlation = x.T @ x / max(num_frames, 1)
    component = correlation[:, np.abs(correlation).sum(axis=0).argmax()]
    for _ in range(POWER_STEPS):
        component = correlation @ component
        component /= max(float(np.linalg.norm(component)), np.finfo(np.float64).tiny)
    is_left = np.ones(num_dims, dtype=bool)
    order = [int(component.argmax())]
    is_left[order[0]] = False
    constant = np.diagonal(correlation) == 0
    correlation[:, constant] = -2.0  # below any correlation
    while len(order) < num_dims:
        nearest = int(np.where(is_left, correlation[order[-1]], -np.inf).argmax())
        order.append(nearest)
        is_left[nearest] = False
    return order


MAX_FRAMES = 1000
"""Most frames that similarities are computed from; longer sequences are subsampled evenly."""

MIN_FRAMES = 4
"""The unbiased estimate divides by (n - 3)."""


def linear_cka(
    x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], *, unbiased: bool = False
) -> float:
    """Linear CKA of (T, D1) and (T, D2): 1 if one is a rotation and a scaling of the other.

    Kornblith et al., "Similarity of Neural Network Representations Revisited", arXiv:1905.00414,
    section 3. With fewer frames than dimensions the biased estimate is near 1 even for unrelated
    noise: `unbiased` uses Song et al.'s estimator of HSIC (JMLR 13, 2012, equation 5; Nguyen et
    al., arXiv:2010.15327, section 2), whose expectation is 0 for unrelated representations, and
    which may be slightly negative.

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
    """Linear CKA between each pair of N layers (T, D_i): (N, N), see `linear_cka`.

    A layer without variance has similarity 0 with every layer, itself included.

    Raises:
        ValueError: There are fewer than 4 frames and `unbiased` is true.
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
    """Centred Gram matrix of the frames of (T, D); inner products of two are their HSIC."""
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
    """Align the frames of several layers of one utterance in time.

    The times are the centres of the frames of the layer with the largest hop, as far as all layers
    reach; each layer gives the frame whose centre is nearest. Long sequences are subsampled
    evenly to at most `MAX_FRAMES`.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameSequence:
    """Frames (T, D) of an utterance, or codes (T, K), and their geometry in samples."""

    frames: NDArray[Any]
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Representation:
    """One layer of one encoder.

    `sorts_dims` draws correlated dimensions side by side; false keeps the order of dimensions that
    is meaningful, such as that of frequency bands. `codes` are those of the encoder's quantiser, if
    it has one.
    """

    model: str
    layer: str
    sequence: FrameSequence
    codes: FrameSequence | None = None
    sorts_dims: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnUtterance:
    """A waveform (S,) at `sample_rate` in Hz, with spectrogram, representations and labels.

    `mel` holds HTK mel bands in natural logarithm from 0 Hz to half the rate. `origin` is where the
    waveform begins in its recording, in seconds: times are counted from the start of the recording.
    `section` is the part that is shown; None for all. Representations are those of the whole
    waveform.
    """

    title: str
    waveform: NDArray[np.float32]
    sample_rate: int
    mel: FrameSequence
    representations: tuple[Representation, ...]
    segments: tuple[Segment, ...] = ()
    section: tuple[float, float] | None = None
    origin: float = 0.0

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate

    @property
    def shown(self) -> tuple[float, float]:
        """Start and end of the section that is shown, in seconds."""
        return self.section or (self.origin, self.origin + self.seconds)

    def start_seconds(self, sequence: FrameSequence) -> float:
        """Left edge of the first frame: half a hop before the centre of its window."""
        geometry = sequence.geometry
        centre = geometry.start_samples + geometry.window_samples / 2
        return self.origin + (centre - geometry.hop_samples / 2) / self.sample_rate
