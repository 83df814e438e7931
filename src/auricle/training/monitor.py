"""What a training shows of itself: a bar, lines of metrics, TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from auricle.errors import OutputError
from auricle.files.atomic import write_whole
from auricle.optional import optional
from auricle.training.metrics import METRICS_FILE, read_metrics

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
