"""Panels of a picture: each draws into axes whose horizontal axis is time in seconds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from auricle.corpus.labels import exceeds
from auricle.plotting.analysis import (
    DrawnUtterance,
    FrameSequence,
    Representation,
    order_by_correlation,
    principal_components,
    standardised,
)
from auricle.plotting.figures import code_colours, code_is_light, two_numbers_as_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from numpy.typing import NDArray

MAX_COLUMNS = 4000
"""Most columns of an image; longer sequences are averaged over neighbouring frames."""

MAX_SIMILARITY_COLUMNS = 1200
PERCENTILES = (1.0, 99.0)
"""Values outside these percentiles are clipped, so that outliers do not flatten the rest."""

TICK_FREQUENCIES_HZ = (250, 500, 1000, 2000, 4000)
NAME_POINTS = 7.0
"""Font size of phones and codes."""

SPARE_PIXELS = 1.0
"""Horizontal margin of a text in its segment, both sides together."""

MAX_PANEL_INCHES = 10.0
"""Upper bound of a panel's width, by which texts are skipped that could never fit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PanelText:
    """A text in a panel, and the width of the segment that it labels."""

    panel: Axes
    text: Text
    seconds: float


def draw_waveform(panel: Axes, side: Axes, utterance: DrawnUtterance) -> None:
    """Draw the waveform, as a minimum-maximum envelope if samples are denser than pixels."""
    origin, rate = utterance.origin, utterance.sample_rate
    first, last = (round((moment - origin) * rate) for moment in utterance.shown)
    waveform = utterance.waveform[first:last]
    size = -(-len(waveform) // MAX_COLUMNS)
    parts = [waveform[at : at + size] for at in range(0, len(waveform), size)]
    seconds = origin + (first + (np.arange(len(parts)) + 0.5) * size) / rate
    lows = np.array([part.min() for part in parts])
    highs = np.array([part.max() for part in parts])
    panel.fill_between(seconds, lows, highs, color="0.25", linewidth=0.5)
    limit = max(float(np.abs(waveform).max()), 1e-4) * 1.05
    panel.set_ylim(-limit, limit)
    panel.set_ylabel("waveform")
    side.set_axis_off()


def draw_mel(panel: Axes, side: Axes, utterance: DrawnUtterance) -> None:
    """Draw the log mel spectrogram with ticks in Hz."""
    image = _draw_frames(panel, utterance.mel, utterance, "viridis")
    num_bands = utterance.mel.frames.shape[1]
    top = _htk_mel(utterance.sample_rate / 2)
    # Band b has its peak at mel (b + 1) / (num_bands + 1) of the range and its middle at b.
    ticks = [_htk_mel(hz) / top * (num_bands + 1) - 1 for hz in TICK_FREQUENCIES_HZ]
    panel.set_yticks(ticks, [f"{hz}" for hz in TICK_FREQUENCIES_HZ])
    panel.set_ylabel("log mel (Hz)")
    _draw_colour_bar(side, image, "ln power")


def draw_segments(panel: Axes, side: Axes, utterance: DrawnUtterance) -> list[PanelText]:
    """Draw labelled segments as boxes; return their texts, for `keep_names_that_fit`."""
    names = []
    left, right = utterance.shown
    panel.set_ylim(0, 1)
    panel.set_yticks([])
    panel.set_ylabel("labels", rotation=0, ha="right", va="center")
    side.set_axis_off()
    for index, segment in enumerate(utterance.segments):
        start, end = max(segment.start, left), min(segment.end, right)
        is_shown = exceeds(segment.end, left) and exceeds(right, segment.start)
        if not is_shown or end <= start:
            continue
        shade = ("0.93", "0.8")[index % 2]
        panel.axvspan(start, end, facecolor=shade, edgecolor="0.4", linewidth=0.4)
        if _may_fit(start, end, utterance):
            names.append(_name(panel, start, end, 0.5, segment.label))
    return names


def draw_representation(
    panel: Axes, side: Axes, utterance: DrawnUtterance, shown: Representation
) -> None:
    """Draw each standardised dimension over time, correlated dimensions side by side."""
    frames = standardised(shown.sequence.frames)
    label = "dimension"
    if shown.sorts_dims:
        frames = frames[:, order_by_correlation(frames)]
        label = "dimension\n(similar ones together)"
    sequence = dataclasses.replace(shown.sequence, frames=frames)
    image = _draw_frames(panel, sequence, utterance, "cividis")
    panel.set_ylabel(label)
    _draw_colour_bar(side, image, "standard deviations\nfrom the dim's mean")


def draw_components(
    panel: Axes,
    side: Axes,
    utterance: DrawnUtterance,
    shown: Representation,
    *,
    name: str | None = None,
) -> None:
    """Draw the first two principal components as lightness and blue to yellow of a ribbon.

    A `name` replaces the axis label and the legend of the colours.
    """
    components = principal_components(standardised(shown.sequence.frames), 2)
    scores = dataclasses.replace(shown.sequence, frames=components.scores)
    part, start = _shown_part(scores, utterance)
    pooled, pool = _pooled(part.frames, MAX_COLUMNS)
    light, yellow = (_between_percentiles(column) for column in pooled.T)
    end = start + _seconds(part, pool * len(pooled), utterance)
    _draw_ribbon(panel, two_numbers_as_colour(light, yellow)[None], start, end)
    panel.set_yticks([])
    label = "principal\ncomponents" if name is None else name
    panel.set_ylabel(label, rotation=0, ha="right", va="center", parse_math=False)
    first, second = (f"{100 * share:.0f} %" for share in components.shares)
    if name is None:
        _say(side, f"1: dark to light, {first}\n2: blue to yellow, {second}\nof the variance")
    else:
        _say(side, f"{first} and {second}")


def draw_codes(
    panel: Axes, side: Axes, utterance: DrawnUtterance, codes: FrameSequence
) -> list[PanelText]:
    """Draw codes as a ribbon per codebook; return their texts as `draw_segments` does."""
    part, start = _shown_part(codes, utterance)
    num_frames, num_codebooks = part.frames.shape
    pool = -(-num_frames // MAX_COLUMNS)
    colours = code_colours(part.frames[::pool].T)
    hop = _seconds(codes, 1, utterance)
    _draw_ribbon(panel, colours, start, start + colours.shape[1] * pool * hop)
    panel.set_yticks(range(num_codebooks), [f"{index + 1}" for index in range(num_codebooks)])
    panel.tick_params(axis="y", length=0)
    panel.set_ylabel("codebook", rotation=0, ha="right", va="center", labelpad=12)
    used = [len(np.unique(column)) for column in part.frames.T]
    _say(side, f"{', '.join(map(str, used))} codes used\nin {num_frames} frames")
    left, right = utterance.shown
    names = []
    for row, column in enumerate(part.frames.T):
        edges = np.flatnonzero(np.diff(column)) + 1
        for first, last in zip([0, *edges], [*edges, num_frames], strict=True):
            begin, end = max(start + first * hop, left), min(start + last * hop, right)
            if end > begin and _may_fit(begin, end, utterance):
                code = int(column[first])
                colour = "black" if code_is_light(code) else "white"
                names.append(_name(panel, begin, end, row, f"{code}", colour=colour))
    return names


def draw_similarity(
    panel: Axes, side: Axes, utterance: DrawnUtterance, shown: Representation
) -> None:
    """Draw the cosine self-similarity of frames; repeated speech gives stripes off the diagonal."""
    part, start = _shown_part(shown.sequence, utterance)
    pooled, pool = _pooled(part.frames, MAX_SIMILARITY_COLUMNS)
    norms = np.linalg.norm(pooled, axis=1, keepdims=True)
    directions = pooled / np.maximum(norms, np.finfo(np.float32).tiny)
    similarity = directions @ directions.T
    end = start + _seconds(part, pool * len(pooled), utterance)
    low, high = _limits(similarity, (0.0, 1.0))
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
    panel.set_ylim(*utterance.shown)
    panel.set_ylabel("time (s)")
    _draw_colour_bar(side, image, "cosine similarity of frames")


def keep_names_that_fit(names: list[PanelText]) -> None:
    """Rotate texts that are wider than their segments, and remove those that do not fit.

    Requires the final layout of the figure.
    """
    for name in names:
        corners = name.panel.transData.transform([(0, 0), (name.seconds, 1)])
        room_across, room_up = np.abs(corners[1] - corners[0]) - SPARE_PIXELS
        if name.text.get_window_extent().width <= room_across:
            continue
        name.text.set_rotation(90)
        box = name.text.get_window_extent()
        if box.width > room_across or box.height > room_up:
            name.text.remove()


def _name(
    panel: Axes, start: float, end: float, height: float, text: str, *, colour: str = "black"
) -> PanelText:
    written = panel.text(
        (start + end) / 2,
        height,
        text,
        ha="center",
        va="center",
        fontsize=NAME_POINTS,
        color=colour,
        parse_math=False,
        clip_on=True,
    )
    written.set_in_layout(False)
    return PanelText(panel=panel, text=written, seconds=end - start)


def _may_fit(start: float, end: float, utterance: DrawnUtterance) -> bool:
    """Return false if a segment is too narrow for any text, without measuring the text."""
    left, right = utterance.shown
    return (end - start) / (right - left) * MAX_PANEL_INCHES * 72 >= NAME_POINTS


def _say(side: Axes, text: str) -> None:
    side.set_axis_off()
    side.text(0, 0.5, text, ha="left", va="center", fontsize="small", transform=side.transAxes)


def _draw_ribbon(panel: Axes, colours: NDArray[np.float64], start: float, end: float) -> None:
    """Draw rows of colours (K, columns, 3) between two times in seconds."""
    panel.imshow(
        colours,
        aspect="auto",
        interpolation="nearest",
        extent=(start, end, len(colours) - 0.5, -0.5),
    )


def _draw_frames(
    panel: Axes, sequence: FrameSequence, utterance: DrawnUtterance, colours: str
) -> Any:
    """Draw frames as columns of an image, one hop wide, around the centre of their window."""
    part, start = _shown_part(sequence, utterance)
    pooled, pool = _pooled(part.frames, MAX_COLUMNS)
    end = start + _seconds(part, pool * len(pooled), utterance)
    low, high = _limits(pooled, (pooled.min() - 1, pooled.max() + 1))
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


def _shown_part(sequence: FrameSequence, utterance: DrawnUtterance) -> tuple[FrameSequence, float]:
    """Crop frames to the section that is shown; return them and their left edge in seconds."""
    start = utterance.start_seconds(sequence)
    hop = sequence.geometry.hop_samples / utterance.sample_rate
    left, right = utterance.shown
    count = len(sequence.frames)
    first = int(np.clip(np.floor((left - start) / hop), 0, count - 1))
    last = int(np.clip(np.ceil((right - start) / hop), first + 1, count))
    part = dataclasses.replace(sequence, frames=sequence.frames[first:last])
    return part, start + first * hop


def _seconds(sequence: FrameSequence, num_frames: int, utterance: DrawnUtterance) -> float:
    return num_frames * sequence.geometry.hop_samples / utterance.sample_rate


def _pooled(frames: NDArray[Any], max_columns: int) -> tuple[NDArray[np.float64], int]:
    """Average neighbouring frames of (T, D) to at most `max_columns`; return the pool size too."""
    pool = -(-len(frames) // max_columns)
    starts = np.arange(0, len(frames), pool)
    sizes = np.diff(np.append(starts, len(frames)))
    sums = np.add.reduceat(frames, starts, axis=0, dtype=np.float64)
    return sums / sizes[:, None], pool


def _limits(values: NDArray[np.float64], of_one: tuple[float, float]) -> tuple[float, float]:
    """Percentile limits of the colour map; `of_one` if all values are about equal."""
    low, high = (float(limit) for limit in np.percentile(values, PERCENTILES))
    return (low, high) if high - low > 1e-4 * max(abs(low), abs(high)) else of_one


def _draw_colour_bar(side: Axes, image: Any, label: str) -> None:
    """Draw a colour bar, with a pointed end where values are clipped."""
    values, low, high = image.get_array(), image.norm.vmin, image.norm.vmax
    rounding = 1e-6 * (high - low)
    below, above = values.min() < low - rounding, values.max() > high + rounding
    ends = {(True, True): "both", (True, False): "min", (False, True): "max"}
    side.figure.colorbar(image, cax=side, label=label, extend=ends.get((below, above), "neither"))


def _between_percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale values to [0, 1] between percentiles; 0.5 if all are equal."""
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        return np.full_like(values, 0.5)
    result: NDArray[np.float64] = np.clip((values - low) / (high - low), 0, 1)
    return result


def _htk_mel(hz: float) -> float:
    return 2595 * float(np.log10(1 + hz / 700))
