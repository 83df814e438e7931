"""ABX of the layers of an encoder: measurement, results as JSON, a table, a picture."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.models.base import Encoder
from auricle.optional import optional
from auricle.plotting.figures import SIZE_INCHES, check_plotting, save_figure
from auricle.probing.abx import MAX_GROUP, MAX_SPEAKERS, abx_scores
from auricle.probing.features import choose_layers, collect_items, layer_items
from auricle.probing.items import ItemTask, item_text
from auricle.probing.report import NOTHING, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "abx.json"


class AbxLayer(msgspec.Struct, frozen=True, kw_only=True):
    """ABX of one layer.

    Attributes:
        name: Name of the layer.
        dim: Its width.
        hop_samples: Samples between its frames.
        within: Error within speakers, from 0 to 1; None without a cell.
        across: Error across speakers, likewise.
        num_within_cells: Cells that `within` is a mean of.
        num_across_cells: Cells that `across` is a mean of.
        num_empty_items: Items that hold the centre of no frame, and are left out.
    """

    name: str
    dim: int
    hop_samples: int
    within: float | None
    across: float | None
    num_within_cells: int
    num_across_cells: int
    num_empty_items: int


class AbxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings common to all models: items, comparisons, and versions of the software.

    Attributes:
        items_sha256: Digest in hex of the text of all items.
        span: As of the `ItemTask`.
        context: "within" or "any".
        distance: Between frames.
        max_group: Most items of one phone, context and speaker; None for all.
        max_speakers: Most speakers of X for an A; None for all.
        seed: Seed of what is drawn.
        versions: Versions of packages, by name.
    """

    items_sha256: str
    span: str
    context: str
    distance: str
    max_group: int | None
    max_speakers: int | None
    seed: int
    versions: dict[str, str]


class AbxResult(msgspec.Struct, frozen=True, kw_only=True):
    """ABX of one model.

    Attributes:
        model: Name of the model, as the user gave it.
        family: Its family.
        num_parameters: Parameters of the encoder.
        weights_sha256: Digest of the weights file in hex; None for a baseline, and if the encoder
            does not know it.
        items: Name of the file that the items come from.
        num_items: Items of all phones.
        num_phones: Phones among them.
        num_speakers: Speakers of them.
        default_layer: Layer that a plain call of the encoder returns.
        layers: Results in order of depth.
        skipped_layers: Layers that were not measured.
        encoding_seconds: Time for reading and encoding.
        scoring_seconds: Time for distances and scores.
    """

    model: str
    family: str
    num_parameters: int
    weights_sha256: str | None
    items: str
    num_items: int
    num_phones: int
    num_speakers: int
    default_layer: str
    layers: tuple[AbxLayer, ...]
    skipped_layers: tuple[str, ...]
    encoding_seconds: float
    scoring_seconds: float

    @property
    def best(self) -> AbxLayer:
        """Layer with the lowest error across speakers, or within them where there is no across."""
        return min(self.layers, key=_rank)

    @property
    def default(self) -> AbxLayer | None:
        """Result of the default layer, None if it was not measured."""
        return next((x for x in self.layers if x.name == self.default_layer), None)


class AbxReport(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a file of results."""

    settings: AbxSettings
    results: tuple[AbxResult, ...]


def _rank(layer: AbxLayer) -> float:
    error = layer.within if layer.across is None else layer.across
    return 1.0 if error is None else error


def abx_settings(
    task: ItemTask,
    *,
    any_context: bool = False,
    distance: str = "angular",
    max_group: int | None = MAX_GROUP,
    max_speakers: int | None = MAX_SPEAKERS,
    seed: int = 0,
) -> AbxSettings:
    """Settings of a measurement, as `abx_scores` describes them, with the versions of today."""
    own: str = import_module("auricle").__version__
    text = item_text(item for of_one in task.items for item in of_one)
    return AbxSettings(
        items_sha256=hashlib.sha256(text.encode()).hexdigest(),
        span=task.span,
        context="any" if any_context else "within",
        distance=distance,
        max_group=max_group,
        max_speakers=max_speakers,
        seed=seed,
        versions={
            "auricle": own,
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "numpy")},
        },
    )


def abx_lines(result: AbxResult) -> Iterator[str]:
    """Text lines of a result: one per layer, between a heading and the sizes."""
    yield (
        f"{result.model}, abx: {result.num_items} items of {result.num_phones} phones and "
        f"{result.num_speakers} speaker(s), from {result.items}"
    )
    for layer in result.layers:
        marks = [
            mark
            for mark, holds in (
                ("best", layer is result.best),
                ("default", layer.name == result.default_layer),
            )
            if holds
        ]
        yield (
            f"  {layer.name:<16}{layer.dim:>6} dims{_error(layer.within):>7} % within"
            f"{_error(layer.across):>7} % across  {', '.join(marks)}"
        ).rstrip()
    first = result.layers[0]
    yield (
        f"  errors of {first.num_within_cells} and {first.num_across_cells} cells; "
        f"{result.encoding_seconds:.0f} s to encode, {result.scoring_seconds:.0f} s to score"
    )
    for layer in result.layers:
        if layer.num_empty_items:
            yield f"  {layer.name}: {layer.num_empty_items} items hold no frame and are left out"
    if result.skipped_layers:
        yield f"  not measured: {', '.join(result.skipped_layers)}"


def _error(error: float | None) -> str:
    return NOTHING if error is None else percent(error)


def abx_table(results: Sequence[AbxResult]) -> list[str]:
    """Lines of a Markdown table: one row per model, the errors of its best and default layer."""
    header = ["model", *(f"{w}, {which}" for w in ("within", "across") for which in _LAYERS)]
    rows = []
    for result in results:
        cells = [f"`{result.model}`"]
        for kind in ("within", "across"):
            for which, layer in zip(_LAYERS, (result.best, result.default), strict=True):
                error = NOTHING if layer is None else _error(_of_kind(layer, kind))
                cells.append(f"{error} ({result.best.name})" if which == "best" else error)
        rows.append(cells)
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


_LAYERS = ("best", "default")


def _of_kind(layer: AbxLayer, kind: str) -> float | None:
    return layer.within if kind == "within" else layer.across


def draw_abx(results: Sequence[AbxResult]) -> Figure:
    """Figure of errors over layers within and across speakers, for one or more models.

    A ring marks the default layer; a model with a single layer is a dashed horizontal line.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("figure.png"))
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind in zip(panels, ("within", "across"), strict=True):
        for index, result in enumerate(results):
            errors = [_of_kind(layer, kind) for layer in result.layers]
            y = [np.nan if error is None else 100 * error for error in errors]
            style = {"color": f"C{index % 10}"}
            label = result.model.replace("$", r"\$") if kind == "within" else None  # no mathtext
            if len(y) == 1 and len(results) > 1:
                panel.axhline(y[0], linestyle="--", label=label, **style)
                continue
            panel.plot(range(1, len(y) + 1), y, marker=".", label=label, **style)
            for place, layer in enumerate(result.layers):
                if layer.name == result.default_layer:
                    panel.plot(place + 1, y[place], "o", fillstyle="none", markersize=10, **style)
        panel.set_title(f"{kind} speakers")
        panel.set_xlabel("layer")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("ABX error of phones (%)")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def read_abx(path: Path) -> AbxReport:
    """Read results of earlier runs.

    Raises:
        AuricleError: The file is missing or not a file of such results.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=AbxReport)
    except OSError as error:
        raise AuricleError(f"cannot open {path}: {error.strerror}; check the path") from error
    except msgspec.MsgspecError as error:
        raise AuricleError(f"{path} holds no results of the task abx: {error}") from error


def comparable_abx(folder: Path, settings: AbxSettings) -> tuple[AbxResult, ...]:
    """Results of earlier runs in a folder; none if there is no file.

    Raises:
        AuricleError: The file is not a file of results, or its settings differ.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    report = read_abx(path)
    if report.settings != settings:
        raise AuricleError(
            f"the results in {path} were measured with {report.settings}, which those of this run, "
            f"{settings}, cannot be compared to; choose another --out, or remove the file"
        )
    return report.results


def add_abx(folder: Path, settings: AbxSettings, new: AbxResult) -> None:
    """Add a result to a folder, replacing that of the same model.

    Rewrites `abx.json`, `abx.png` (errors over layers) and `abx.md` with all models.

    Raises:
        AuricleError: The folder holds results with other settings, matplotlib is missing, or a file
            cannot be written.
    """
    # Read again for every result, as another run may have added to the folder.
    old = comparable_abx(folder, settings)
    results = [new if one.model == new.model else one for one in old]
    if new not in results:
        results.append(new)
    report = AbxReport(settings=settings, results=tuple(results))
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    write_whole(folder / FILE, lambda temporary: temporary.write_bytes(text))
    save_figure(draw_abx(results), folder / "abx.png")
    table = "\n".join(abx_table(results)) + "\n"
    write_whole(folder / "abx.md", lambda temporary: temporary.write_text(table, encoding="utf-8"))


def measure_abx(
    encoder: Encoder,
    task: ItemTask,
    settings: AbxSettings,
    *,
    layers: Sequence[str] | None = None,
    model: str | None = None,
    on_seconds: Callable[[float], object] = lambda seconds: None,
    on_share: Callable[[float], object] = lambda share: None,
) -> AbxResult:
    """Measure the ABX of layers of a frozen encoder.

    An item has the frames whose centre, the middle of `encoder.frame_times`, lies in
    [onset, offset). The frames of all chosen layers are in memory together.

    Args:
        encoder: In eval mode, as `auricle.load` returns it.
        task: From `read_item_task`.
        settings: From `abx_settings`.
        layers: Names of the layers; None for those that `probe` chooses.
        model: Name of the encoder in the result; None for its own name.
        on_seconds: Called with the seconds of audio encoded since its last call.
        on_share: Called with the share of the scores made since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The encoder is in training mode, items do not fit the audio, or a layer holds
            no frame of any item, NaN or infinity.
        LayerError: The encoder has no such layer.
    """
    chosen = choose_layers(encoder, layers)
    start = time.perf_counter()
    collected = collect_items(encoder, task, chosen, on_seconds)
    middle = time.perf_counter()
    items = [item for of_one in task.items for item in of_one]
    results = []
    for layer in chosen:
        found, num_empty = layer_items(collected.pop(layer.name), items)
        try:
            scores = abx_scores(
                found,
                distance=settings.distance,
                any_context=settings.context == "any",
                max_group=settings.max_group,
                max_speakers=settings.max_speakers,
                generator=torch.Generator().manual_seed(settings.seed),
                on_share=lambda share: on_share(share / len(chosen)),
            )
        except AuricleError as error:
            raise AuricleError(f"{encoder.info.name}, layer {layer.name}: {error}") from error
        results.append(
            AbxLayer(
                name=layer.name,
                dim=layer.dim,
                hop_samples=layer.geometry.hop_samples,
                within=scores.within.error,
                across=scores.across.error,
                num_within_cells=scores.within.num_cells,
                num_across_cells=scores.across.num_cells,
                num_empty_items=num_empty,
            )
        )
    names = {layer.name for layer in chosen}
    return AbxResult(
        model=model or encoder.info.name,
        family=encoder.family,
        num_parameters=encoder.info.num_parameters,
        weights_sha256=encoder.provenance.sha256,
        items=task.source,
        num_items=len(items),
        num_phones=len({item.phone for item in items}),
        num_speakers=len({item.speaker for item in items}),
        default_layer=encoder.default_layer,
        layers=tuple(results),
        skipped_layers=tuple(i.name for i in encoder.layer_infos if i.name not in names),
        encoding_seconds=round(middle - start, 2),
        scoring_seconds=round(time.perf_counter() - middle, 2),
    )
