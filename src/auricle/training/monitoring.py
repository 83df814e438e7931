"""Training metrics (means over steps, JSON lines, TensorBoard events, progress bar, curves), and a
graceful stop: SIGINT and SIGTERM are deferred to the end of a step.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from tqdm import tqdm

from auricle.errors import OutputError
from auricle.files.atomic import write_whole
from auricle.optional import optional
from auricle.plotting.figures import check_plotting, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequests:
    """Context manager that records the first SIGINT or SIGTERM in `number` instead of stopping.

    A second signal has its previous effect. Signals reach the main thread alone; in another thread
    the context manager does nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            self._previous = {one: signal.signal(one, self._note) for one in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal itself returned
        self._previous = {}


METRICS_FILE = "metrics.jsonl"


def read_metrics(out: Path) -> list[dict[str, float]]:
    """Metrics of a training in order of step; an empty list if there are none.

    A truncated last line, left by a kill, is ignored.
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
    """Means of the metrics of several steps."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._parts: dict[str, list[Tensor]] = {}
        self._audio_seconds = 0.0

    def add_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Add metrics of a loss, without waiting for their values on a GPU."""
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value.detach())

    def add_step(self, values: Mapping[str, float], audio_seconds: float) -> None:
        """Add metrics of a step, and the seconds of audio that it processed."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._audio_seconds += audio_seconds

    def take(self) -> dict[str, float]:
        """Means since the last call, and the throughput in seconds of audio per second."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        for name, values in self._parts.items():
            means[name] = sum(float(value) for value in values) / len(values)
        elapsed = max(time.monotonic() - self._begun, 1e-9)
        means["audio_seconds_per_second"] = self._audio_seconds / elapsed
        self._begin()
        return means


EVENTS_FOLDER = "tensorboard"


def check_monitoring() -> None:
    """Check that TensorBoard events can be written, before any work is done.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    with optional("tensorboard", "training"):
        import tensorboard  # noqa: F401 - torch imports parts of it alone
        import torch.utils.tensorboard  # noqa: F401 - asks only whether it works


class Monitor:
    """Write metrics below `out` and show progress on a terminal.

    `first_step` is the step that this run starts from: later lines and events, of a run that was
    killed after its last checkpoint, are discarded.
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
        """Advance the progress bar by one step."""
        self._bar.update()

    def record(self, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics of the steps up to `step`.

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
"""Width of the smoothing window as a fraction of the points."""


def check_curves() -> None:
    """Check that a figure can be drawn, before any work is done.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plotting(Path("curves.png"))


def draw_curves(title: str, lines: Sequence[dict[str, float]]) -> Figure:
    """Figure with one panel per metric, the loss first; thin lines are raw, bold ones smoothed.

    `lines` are those of `read_metrics`, at least one.

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
    """Draw the metrics of a training and save the figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: The figure cannot be written.
    """
    save_figure(draw_curves(title, lines), path)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving averages, with narrower windows at the ends."""
    reach = int(len(values) * SMOOTHED_FRACTION / 2)
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        means.append(sum(window) / len(window))
    return means
