"""Metrics of a training: means over steps, TensorBoard and JSON lines, curves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from tqdm import tqdm

from auricle.errors import OutputError
from auricle.optional import optional
from auricle.plotting.figures import check_plotting, save_figure
from auricle.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


METRICS_FILE = "metrics.jsonl"


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The lines of metrics of a training in order of step; empty where there are none.

    A last line that was cut short by a kill is left out.
    """
    path = out / METRICS_FILE
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class StepMeans:
    """Sums up what steps report until a line of metrics is due."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._parts: dict[str, list[Tensor]] = {}
        self._audio_seconds = 0.0

    def add_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Add scalars of a loss, which may still be on their way on a GPU."""
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value.detach())

    def add_step(self, values: Mapping[str, float], audio_seconds: float) -> None:
        """Add numbers of a step, and the audio that it went through."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._audio_seconds += audio_seconds

    def take(self) -> dict[str, float]:
        """The means since the last call, and the seconds of audio per second; begins anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        for name, values in self._parts.items():
            means[name] = sum(float(value) for value in values) / len(values)
        elapsed = max(time.monotonic() - self._begun, 1e-9)
        means["audio_seconds_per_second"] = self._audio_seconds / elapsed
        self._begin()
        return means


EVENTS_FOLDER = "tensorboard"


def check_monitoring() -> None:
    """Find out before any work whether events can be written.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    with optional("tensorboard", "training"):
        import tensorboard  # noqa: F401 - torch imports parts of it alone
        import torch.utils.tensorboard  # noqa: F401 - asks only whether it works


class Monitor:
    """Shows progress on a terminal and keeps metrics below `out`.

    `first_step` is where this run begins: lines and events past it, of a run that was killed after
    its last checkpoint, are taken back.
    """

    def __init__(self, out: Path, *, first_step: int, num_steps: int) -> None:
        with optional("tensorboard", "training"):
            from torch.utils.tensorboard import SummaryWriter

        self._path = out / METRICS_FILE
        kept = [line for line in read_metrics(out) if line["step"] <= first_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self._path, lambda path: _write(path, text))
        self._events: Any = SummaryWriter(str(out / EVENTS_FOLDER), purge_step=first_step + 1)
        self._bar = tqdm(
            total=num_steps, initial=first_step, unit="step", disable=None, dynamic_ncols=True
        )

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._events.close()

    def stepped(self) -> None:
        """Move the bar by a step."""
        self._bar.update()

    def record(self, step: int, metrics: dict[str, float]) -> None:
        """Keep and show the metrics of the steps up to `step`.

        Raises:
            OutputError: They cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path}: {error.strerror}; free some space and run the same "
                "command again"
            ) from error
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()
        rate = metrics["audio_seconds_per_second"]
        self._bar.set_postfix_str(f"loss {metrics['loss']:.4f}, {rate:.0f} s of audio/s")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


NUM_COLUMNS = 2
PANEL_INCHES = (5.0, 2.6)
NOT_DRAWN = frozenset({"step", "epoch", "seconds"})
SMOOTHED_FRACTION = 0.05
"""Part of the points that the mean of a smoothed curve goes over."""


def check_curves() -> None:
    """Find out before any work whether a picture can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("curves.png"))


def draw_curves(title: str, lines: Sequence[dict[str, float]]) -> Figure:
    """One panel for each metric, the loss first, thin as it is and bold smoothed.

    `lines` are those of `read_metrics`, one or more.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_curves()
    with optional("matplotlib", "drawing"):
        from matplotlib.figure import Figure
    names = [name for name in lines[-1] if name not in NOT_DRAWN]
    names.sort(key=lambda name: name != "loss")
    num_rows = -(-len(names) // NUM_COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * NUM_COLUMNS, height * num_rows + 0.5), layout="constrained")
    for index, name in enumerate(names):
        panel = figure.add_subplot(num_rows, NUM_COLUMNS, index + 1)
        points = [(line["step"], line[name]) for line in lines if name in line]
        steps = [step for step, _ in points]
        values = [value for _, value in points]
        panel.plot(steps, values, color="0.7", linewidth=0.8)
        panel.plot(steps, _smoothed(values), color="tab:blue", linewidth=1.5)
        panel.set_title(name.replace("_", " "), fontsize="medium")
        panel.grid(alpha=0.3)
        panel.set_xlabel("step")
    figure.suptitle(title, parse_math=False)
    return figure


def save_curves(title: str, lines: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the metrics of a training into `path`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The picture cannot be written.
    """
    save_figure(draw_curves(title, lines), path)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over windows around each point, narrower at the ends."""
    reach = int(len(values) * SMOOTHED_FRACTION / 2)
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append(sum(window) / len(window))
    return means
