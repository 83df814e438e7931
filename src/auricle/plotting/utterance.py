"""One utterance on one time axis: waveform, log mel, representation, self-similarity."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.errors import MissingExtraError, OutputError
from auricle.outputs import FrameGeometry
from auricle.plotting.ordering import order_by_correlation, standardised
from auricle.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PICTURE_SUFFIXES = (".png", ".pdf", ".svg")

WIDTH_INCHES = 10.0
PANEL_INCHES = (0.9, 1.7, 2.8, 7.0)
"""Heights; the last one makes the self-similarity about square."""

DPI = 110  # 1100 pixels wide
MAX_COLUMNS = 4000
"""Longer sequences are averaged over neighbouring frames to at most this many columns."""

MAX_SIMILARITY_COLUMNS = 1200
PERCENTILES = (1.0, 99.0)
"""Values beyond these take the end colours, so that a few outliers do not flatten the rest."""

TICK_FREQUENCIES_HZ = (250, 500, 1000, 2000, 4000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence:
    """Frames (T, D) of an utterance, and where they lie in its samples."""

    frames: NDArray[np.floating[Any]]
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """What the picture shows.

    `waveform` is (S,) at `sample_rate` in Hz, `mel` HTK mel bands in natural logarithm from 0 Hz to
    half the rate. `sorts_dims` puts dimensions that move together side by side; false keeps the
    order of dimensions that have one of their own, such as frequency bands.
    """

    title: str
    waveform: NDArray[np.float32]
    sample_rate: int
    mel: Sequence
    representation: Sequence
    sorts_dims: bool = True

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sample_rate


def check_plotting(path: Path) -> None:
    """Find out before any work whether a picture can be drawn into `path`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The name has none of the endings that pictures may have.
    """
    try:
        import matplotlib  # noqa: F401 - asks only whether it is there
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib, which is not installed; run pip install matplotlib"
        ) from error
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(
            f"cannot draw into {path}: expected a name that ends in {', '.join(PICTURE_SUFFIXES)}"
        )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the ending of `path` names.

    Raises:
        OutputError: It cannot be written; nothing half-written is left.
    """

    def write(temporary: Path) -> None:
        with warnings.catch_warnings():
            # A file name in the title may have characters that the font lacks: boxes are drawn.
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            figure.savefig(temporary, format=path.suffix.lower().lstrip("."), dpi=DPI)

    write_whole(path, write)


def draw_utterance(utterance: Utterance) -> Figure:
    """The figure of four panels that share their time axis, in seconds.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("figure.png"))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, sum(PANEL_INCHES) + 1.2), layout="constrained")
    # Colour bars have a column of their own, so that they do not shift the panels' time axes.
    grid = figure.add_gridspec(
        len(PANEL_INCHES), 2, height_ratios=PANEL_INCHES, width_ratios=(1, 0.022)
    )
    panels: list[Axes] = []
    for row in range(len(PANEL_INCHES)):
        panels.append(figure.add_subplot(grid[row, 0], sharex=panels[0] if panels else None))
    bars = [figure.add_subplot(grid[row, 1]) for row in range(1, len(PANEL_INCHES))]
    _draw_waveform(panels[0], utterance)
    _draw_mel(panels[1], bars[0], utterance)
    _draw_representation(panels[2], bars[1], utterance)
    _draw_similarity(panels[3], bars[2], utterance)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time (s)")
    panels[0].set_xlim(0, utterance.seconds)
    figure.align_ylabels(panels)
    figure.suptitle(utterance.title, parse_math=False, wrap=True)
    return figure


def _draw_waveform(panel: Axes, utterance: Utterance) -> None:
    """The waveform, or the band between its extremes where samples are denser than the paper."""
    waveform = utterance.waveform
    size = -(-len(waveform) // MAX_COLUMNS)
    parts = [waveform[at : at + size] for at in range(0, len(waveform), size)]
    seconds = (np.arange(len(parts)) + 0.5) * size / utterance.sample_rate
    lows = np.array([part.min() for part in parts])
    highs = np.array([part.max() for part in parts])
    panel.fill_between(seconds, lows, highs, color="0.25", linewidth=0.5)
    limit = max(float(np.abs(waveform).max()), 1e-4) * 1.05
    panel.set_ylim(-limit, limit)
    panel.set_ylabel("waveform")


def _draw_mel(panel: Axes, bar: Axes, utterance: Utterance) -> None:
    image = _draw_frames(panel, utterance.mel, utterance.sample_rate, "viridis")
    num_bands = utterance.mel.frames.shape[1]
    top = _htk_mel(utterance.sample_rate / 2)
    # Band b has its peak at mel (b + 1) / (num_bands + 1) of the range and its middle at b.
    ticks = [_htk_mel(hz) / top * (num_bands + 1) - 1 for hz in TICK_FREQUENCIES_HZ]
    panel.set_yticks(ticks, [f"{hz}" for hz in TICK_FREQUENCIES_HZ])
    panel.set_ylabel("log mel (Hz)")
    panel.figure.colorbar(image, cax=bar, label="ln power")


def _draw_representation(panel: Axes, bar: Axes, utterance: Utterance) -> None:
    frames = standardised(utterance.representation.frames)
    label = "dimension"
    if utterance.sorts_dims:
        frames = frames[:, order_by_correlation(frames)]
        label = "dimension (similar ones together)"
    sequence = dataclasses.replace(utterance.representation, frames=frames)
    image = _draw_frames(panel, sequence, utterance.sample_rate, "cividis")
    panel.set_ylabel(label)
    panel.figure.colorbar(image, cax=bar, label="standard deviations\nfrom the dim's mean")


def _draw_similarity(panel: Axes, bar: Axes, utterance: Utterance) -> None:
    pooled, pool = _pooled(utterance.representation.frames, MAX_SIMILARITY_COLUMNS)
    norms = np.linalg.norm(pooled, axis=1, keepdims=True)
    directions = pooled / np.maximum(norms, np.finfo(np.float32).tiny)
    similarity = directions @ directions.T
    start, end = _extent(utterance.representation, pool, len(pooled), utterance.sample_rate)
    low, high = _colour_limits(similarity)
    image = panel.imshow(
        similarity,
        origin="lower",
        aspect="auto",
        interpolation="antialiased",
        extent=(start, end, start, end),
        cmap="magma",
        vmin=low,
        vmax=high,
    )
    panel.set_ylim(0, utterance.seconds)
    panel.set_ylabel("time (s)")
    panel.figure.colorbar(image, cax=bar, label="cosine similarity of frames")


def _draw_frames(panel: Axes, sequence: Sequence, sample_rate: int, colours: str) -> Any:
    """Frames as columns of an image, each over its hop around the centre of what it sees."""
    pooled, pool = _pooled(sequence.frames, MAX_COLUMNS)
    start, end = _extent(sequence, pool, len(pooled), sample_rate)
    low, high = _colour_limits(pooled)
    return panel.imshow(
        pooled.T,
        origin="lower",
        aspect="auto",
        interpolation="antialiased",
        extent=(start, end, -0.5, pooled.shape[1] - 0.5),
        cmap=colours,
        vmin=low,
        vmax=high,
    )


def _extent(
    sequence: Sequence, pool: int, num_columns: int, sample_rate: int
) -> tuple[float, float]:
    """Where the first column begins and the last one ends, in seconds."""
    geometry = sequence.geometry
    centre = geometry.start_samples + geometry.window_samples / 2
    start = centre - geometry.hop_samples / 2
    end = start + num_columns * pool * geometry.hop_samples
    return start / sample_rate, end / sample_rate


def _pooled(frames: NDArray[Any], max_columns: int) -> tuple[NDArray[np.float64], int]:
    """Means of so many neighbouring frames of (T, D) that at most `max_columns` are left."""
    pool = -(-len(frames) // max_columns)
    starts = np.arange(0, len(frames), pool)
    sizes = np.diff(np.append(starts, len(frames)))
    sums = np.add.reduceat(frames, starts, axis=0, dtype=np.float64)
    return sums / sizes[:, None], pool


def _colour_limits(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def _htk_mel(hz: float) -> float:
    return 2595 * float(np.log10(1 + hz / 700))
