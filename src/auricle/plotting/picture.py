"""Layout of pictures: one representation of an utterance, or several and their similarity."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from auricle.plotting import panels
from auricle.plotting.analysis import DrawnUtterance, FrameSequence, Representation
from auricle.plotting.figures import every_script, new_figure
from auricle.plotting.panels import PanelText

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

WIDTH_INCHES = 10.0
SIDE_WIDTH = 0.022
"""Width of the column of colour bars relative to that of the panels, whose time axes align."""

WAVEFORM_INCHES, MEL_INCHES, SEGMENTS_INCHES, COMPONENTS_INCHES = 0.9, 1.7, 0.4, 0.4
REPRESENTATION_INCHES, SEVERAL_INCHES = 2.8, 1.8
"""Height of a single representation, and of each of several."""

MAX_WHOLE = 8
"""Most representations that are drawn whole; more are drawn as principal components."""

RIBBON_INCHES = 0.33
RIBBONS_TITLE = (
    "principal components: first dark to light, second blue to yellow "
    "(right: their shares of the variance)"
)

SIMILARITY_INCHES = 7.0
"""Height at which the panel is about square."""

CODEBOOK_INCHES = 0.3
MARGIN_INCHES = 1.2
MATRIX_INCHES = (4.0, 7.5)
"""Least and greatest height of the matrix; in between, `LAYER_INCHES` for each layer."""

LAYER_INCHES = 0.3
LAYER_POINTS = (4.5, 8.0)
"""Least and greatest font size of layers' names."""

LETTER_WIDTH = 0.62
"""Approximate width of a character relative to the font size."""

Draw: TypeAlias = "Callable[[Axes, Axes], list[PanelText] | None]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimePanel:
    """A panel of a picture with a time axis, and the frames it shows, if any."""

    name: str
    axes: Axes
    sequence: FrameSequence | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, its panels that share the time axis, and the data it shows."""

    utterance: DrawnUtterance
    figure: Figure
    panels: tuple[TimePanel, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSimilarity:
    """CKA (N, N) between N layers, each named by its model and its own name.

    `num_moments` is the number of frame times it was computed from.
    """

    layers: tuple[tuple[str, str], ...]
    matrix: NDArray[np.float64]
    num_moments: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    inches: float
    draw: Draw
    sequence: FrameSequence | None = None


@every_script()
def draw_utterance(utterance: DrawnUtterance) -> Picture:
    """Draw one representation and its self-similarity on one time axis.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    (shown,) = utterance.representations
    rows = [
        *_speech_rows(utterance),
        *_representation_rows(utterance, shown, REPRESENTATION_INCHES),
        _Row(
            name="self-similarity",
            inches=SIMILARITY_INCHES,
            draw=lambda panel, side: panels.draw_similarity(panel, side, utterance, shown),
            sequence=shown.sequence,
        ),
    ]
    figure = _new_figure(rows, 0.0)
    return _finish(figure, *_draw_rows(figure, rows, utterance), utterance)


@every_script()
def draw_comparison(utterance: DrawnUtterance, similarity: LayerSimilarity) -> Picture:
    """Draw several representations on one time axis, and below them the similarity of layers.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = _speech_rows(utterance)
    rows_of = _titled_rows if len(utterance.representations) <= MAX_WHOLE else _ribbon_rows
    for shown in utterance.representations:
        rows += rows_of(utterance, shown)
    num_layers = len(similarity.layers)
    square = float(np.clip(num_layers * LAYER_INCHES, *MATRIX_INCHES))
    longest = max(len(" ".join(layer)) for layer in similarity.layers)
    below = square + MARGIN_INCHES + longest * LAYER_POINTS[1] * LETTER_WIDTH / 72
    figure = _new_figure(rows, below)
    halves = figure.add_gridspec(2, 1, height_ratios=(figure.get_figheight() - below, below))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    drawn, names = _draw_rows(top, rows, utterance)
    _draw_matrix(bottom, similarity, square, is_of_more=utterance.section is not None)
    return _finish(figure, drawn, names, utterance)


def _new_figure(rows: list[_Row], inches_below: float) -> Figure:
    height = sum(row.inches for row in rows) + MARGIN_INCHES + inches_below
    return new_figure(figsize=(WIDTH_INCHES, height), layout="constrained")


def _finish(
    figure: Figure, drawn: tuple[TimePanel, ...], names: list[PanelText], utterance: DrawnUtterance
) -> Picture:
    figure.suptitle(utterance.title, parse_math=False, wrap=True)
    figure.draw_without_rendering()
    panels.keep_names_that_fit(names)
    return Picture(utterance=utterance, figure=figure, panels=drawn)


def _speech_rows(utterance: DrawnUtterance) -> list[_Row]:
    rows = [
        _Row(
            name="waveform",
            inches=WAVEFORM_INCHES,
            draw=lambda panel, side: panels.draw_waveform(panel, side, utterance),
        ),
        _Row(
            name="log mel",
            inches=MEL_INCHES,
            draw=lambda panel, side: panels.draw_mel(panel, side, utterance),
            sequence=utterance.mel,
        ),
    ]
    if utterance.segments:
        rows.append(
            _Row(
                name="labels",
                inches=SEGMENTS_INCHES,
                draw=lambda panel, side: panels.draw_segments(panel, side, utterance),
            )
        )
    return rows


def _titled_rows(utterance: DrawnUtterance, shown: Representation) -> list[_Row]:
    """Rows of one of several representations."""
    first, *others = _representation_rows(utterance, shown, SEVERAL_INCHES)

    def draw(panel: Axes, side: Axes) -> None:
        first.draw(panel, side)
        panel.set_title(first.name, loc="left", fontsize="medium", parse_math=False)

    return [dataclasses.replace(first, draw=draw), *others]


def _ribbon_rows(utterance: DrawnUtterance, shown: Representation) -> list[_Row]:
    """Rows of one of more than `MAX_WHOLE` representations: principal components and codes."""
    _, components, *others = _representation_rows(utterance, shown, SEVERAL_INCHES)

    def draw(panel: Axes, side: Axes) -> None:
        name = f"{shown.model}, {shown.layer}"
        panels.draw_components(panel, side, utterance, shown, name=name)
        if shown is utterance.representations[0]:
            panel.set_title(RIBBONS_TITLE, loc="left", fontsize="medium")

    return [dataclasses.replace(components, draw=draw, inches=RIBBON_INCHES), *others]


def _representation_rows(
    utterance: DrawnUtterance, shown: Representation, inches: float
) -> list[_Row]:
    name = f"{shown.model}, {shown.layer}"
    rows = [
        _Row(
            name=name,
            inches=inches,
            draw=lambda panel, side: panels.draw_representation(panel, side, utterance, shown),
            sequence=shown.sequence,
        ),
        _Row(
            name=f"{name}: principal components",
            inches=COMPONENTS_INCHES,
            draw=lambda panel, side: panels.draw_components(panel, side, utterance, shown),
            sequence=shown.sequence,
        ),
    ]
    codes = shown.codes
    if codes is not None:
        rows.append(
            _Row(
                name=f"{shown.model}: codes",
                inches=CODEBOOK_INCHES * codes.frames.shape[1],
                draw=lambda panel, side: panels.draw_codes(panel, side, utterance, codes),
                sequence=codes,
            )
        )
    return rows


def _draw_rows(
    figure: Figure | SubFigure, rows: list[_Row], utterance: DrawnUtterance
) -> tuple[tuple[TimePanel, ...], list[PanelText]]:
    """Draw rows that share their time axis; return their panels and texts."""
    heights = [row.inches for row in rows]
    grid = figure.add_gridspec(len(rows), 2, height_ratios=heights, width_ratios=(1, SIDE_WIDTH))
    drawn: list[TimePanel] = []
    names: list[PanelText] = []
    for index, row in enumerate(rows):
        axes = figure.add_subplot(grid[index, 0], sharex=drawn[0].axes if drawn else None)
        side = figure.add_subplot(grid[index, 1])
        names += row.draw(axes, side) or []
        axes.tick_params(labelbottom=index == len(rows) - 1)
        drawn.append(TimePanel(name=row.name, axes=axes, sequence=row.sequence))
    drawn[-1].axes.set_xlabel("time (s)")
    drawn[0].axes.set_xlim(*utterance.shown)
    figure.align_ylabels([panel.axes for panel in drawn])
    return tuple(drawn), names


def _draw_matrix(
    figure: SubFigure, similarity: LayerSimilarity, inches: float, *, is_of_more: bool
) -> None:
    """Draw the matrix of layers with lines between models, and as many names as fit."""
    axes = figure.add_subplot()
    image = axes.imshow(similarity.matrix, vmin=0, vmax=1, cmap="viridis")
    beside = axes.inset_axes((1.03, 0.0, 0.03, 1.0))
    figure.colorbar(image, cax=beside, label="linear CKA, unbiased estimate")
    models = [model for model, _ in similarity.layers]
    for edge in np.flatnonzero([a != b for a, b in itertools.pairwise(models)]):
        axes.axhline(edge + 0.5, color="white", linewidth=1.5)
        axes.axvline(edge + 0.5, color="white", linewidth=1.5)
    points = inches / len(models) * 72  # of one layer
    step = int(np.ceil(LAYER_POINTS[0] * 1.2 / points))
    size = float(np.clip(points * step / 1.2, *LAYER_POINTS))
    ticks = range(0, len(models), step)
    names = [" ".join(similarity.layers[index]) for index in ticks]
    axes.set_xticks(ticks, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    title = f"similarity of all layers, from {similarity.num_moments:,} moments"
    if is_of_more:
        title += " of the whole recording"
    axes.set_title(title, fontsize="medium")
