"""Trials on bundled speech: `auricle check` of an encoder's weights, and `auricle demo`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.cli.options import MODEL_HELP, add_device, add_weights, check_folder, load_encoder
from auricle.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

    from auricle.models.base import Encoder

BATCH_LIMIT = 1e-4
"""Largest difference from the batch, in standard deviations: the library's promise in float32."""

HALF_BATCH_LIMIT = 0.1
"""The same for 16-bit weights, whose sums round in another order."""

WIDTH = 300
"""Most characters of the list of unused keys."""

HEADER = ("layer", "frames", "dim", "mean", "std", "min", "max", "constant", "batch diff")

DEMO_MODELS = (DEFAULT_MODEL, "fbank")
"""Bundled models; the first is drawn."""

DEMO_ROW = "{:<10}{:<24}{:>9}{:>8}{:>6}{:>9}{:>9}{:>8}"

DEMO_HEADER = ("model", "file", "seconds", "frames", "dim", "hop ms", "mean", "std")


class Check:
    """The command `auricle check`."""

    SUMMARY = "check a model's weights"
    TEXT = """\
Check an encoder's weights: run a second of bundled speech through every layer.

Reports for each layer its frames, dim, statistics, the number of dims that are constant over time,
and the largest difference between the output alone and in a batch, in standard deviations. The
exit status is 1 if a check fails: NaN or infinity, a weight of zeros, a constant layer, or an
output that depends on the batch.
"""
    EXAMPLES = """\
examples:
  auricle check tera
  auricle check path/to/states-1000000.ckpt
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the model, its weights and the device."""
        parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
        add_weights(parser)
        add_device(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Print a report of every layer; the status is 1 if a check fails.

        Raises:
            AuricleError: It cannot be loaded.
        """
        encoder = load_encoder(arguments)
        info = encoder.info
        print(
            f"{info.name}: family {info.family}, {info.num_parameters:,} parameters, "
            f"{encoder.dtype}"
        )
        if encoder.unused_keys:
            unused = textwrap.shorten(", ".join(encoder.unused_keys), WIDTH)
            print(f"not used by the encoder: {unused}")
        reports = _reports(encoder)
        print("\n".join(_table([HEADER, *map(_cells, reports)])))
        problems = [*_weight_problems(encoder), *_layer_problems(encoder, reports)]
        for problem in problems:
            print(f"PROBLEM: {problem}")
        if problems:
            print("failed: download the checkpoint again, and check that it is the intended one")
            return 1
        print(
            "passed: weights and representations are finite, no layer is constant, and outputs do "
            "not depend on the batch"
        )
        return 0


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """Output of one layer for a second of speech.

    Attributes:
        name: Name of the layer.
        output: Output (frames, dim) of the waveform alone.
        batch_difference: Largest difference to the output in a batch, in standard deviations.
    """

    name: str
    output: Tensor
    batch_difference: float

    @property
    def num_flat(self) -> int:
        """Number of dimensions that are constant over the frames."""
        return int((self.output.amax(dim=0) == self.output.amin(dim=0)).sum())


def _cells(report: LayerReport) -> tuple[str, ...]:
    x = report.output
    statistics = (f"{value:.4g}" for value in (x.mean(), x.std(), x.min(), x.max()))
    counts = map(str, x.shape)
    return (
        report.name, *counts, *statistics, str(report.num_flat), f"{report.batch_difference:.1e}"
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Format rows as aligned columns, the first left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *numbers))


def _reports(encoder: Encoder) -> list[LayerReport]:
    """Run every layer on a second of speech, alone and in a batch of three."""
    import torch

    from auricle.audio.files import read_audio
    from auricle.audio.inputs import sample_paths
    from auricle.info import SAMPLE_RATE
    from auricle.nn.cpu.policy import reference_kernels

    wav, other = (read_audio(path, sample_rate=SAMPLE_RATE) for path in sample_paths()[:2])
    second = wav[SAMPLE_RATE : 2 * SAMPLE_RATE]
    neighbours = (other[: 2 * SAMPLE_RATE], torch.zeros(SAMPLE_RATE // 2))
    with torch.inference_mode():
        (alone,) = encoder.layers([second])
        with reference_kernels():  # where the CPU infers, it takes waveforms one by one
            _, batched, _ = encoder.layers([neighbours[0], second, neighbours[1]])
    return [
        LayerReport(name, output.cpu(), _difference(batched[name].cpu(), output.cpu()))
        for name, output in alone.items()
    ]


def _difference(batched: Tensor, alone: Tensor) -> float:
    difference = float((batched - alone).abs().max())
    return difference / float(alone.std()) if difference else 0.0


def _weight_problems(encoder: Encoder) -> Iterator[str]:
    for name, weight in encoder.named_parameters():
        if not bool(weight.isfinite().all()):
            yield f"weight {name} has NaN or infinity"
        elif weight.numel() > 1 and weight.dim() > 1 and not bool(weight.any()):
            yield f"weight {name} is all zeros"


def _layer_problems(encoder: Encoder, reports: list[LayerReport]) -> Iterator[str]:
    limit = BATCH_LIMIT if encoder.dtype.itemsize >= 4 else HALF_BATCH_LIMIT
    for report in reports:
        if not bool(report.output.isfinite().all()):
            yield f"layer {report.name} has NaN or infinity"
        elif report.num_flat == report.output.shape[1]:
            yield f"layer {report.name} is constant over all frames"
        elif report.batch_difference > limit:
            yield (
                f"layer {report.name} differs by {report.batch_difference:.1e} standard "
                f"deviations in a batch, more than {limit:g}"
            )


class Demo:
    """The command `auricle demo`."""

    SUMMARY = "encode and plot bundled speech, offline"
    TEXT = """\
Encode the bundled speech, and plot the representation; needs no network.
"""
    EXAMPLES = """\
example:
  auricle demo --out demo
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the folder to write to."""
        parser.add_argument(
            "--out",
            metavar="DIR",
            type=Path,
            default=Path("demo"),
            help="folder for arrays and picture (default: demo)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Encode the bundled speech, print statistics, write arrays and a picture.

        Raises:
            OutputError: The folder cannot be written to.
        """
        check_folder(arguments.out)
        import torch

        from auricle.audio.files import read_audio
        from auricle.audio.inputs import sample_paths
        from auricle.extraction.writers.arrays import save_npy
        from auricle.files.atomic import write_whole
        from auricle.hub.load import load
        from auricle.info import SAMPLE_RATE
        from auricle.plotting.api import listen, picture_of
        from auricle.plotting.figures import check_plotting, save_figure

        sources = sample_paths()
        waveforms = [read_audio(source, sample_rate=SAMPLE_RATE) for source in sources]
        encoders = [load(name) for name in DEMO_MODELS]
        print(DEMO_ROW.format(*DEMO_HEADER))
        for name, encoder in zip(DEMO_MODELS, encoders, strict=True):
            hop_ms = 1000 * encoder.info.hop_samples / SAMPLE_RATE
            with torch.inference_mode():
                representations = encoder(waveforms)
            for source, waveform, x in zip(sources, waveforms, representations, strict=True):
                seconds = f"{len(waveform) / SAMPLE_RATE:.2f}"
                facts = (*x.shape, f"{hop_ms:g}", f"{x.mean():.3f}", f"{x.std():.3f}")
                print(DEMO_ROW.format(name, source.name, seconds, *facts))
                target = arguments.out / name / f"{source.stem}.npy"
                write_whole(target, functools.partial(save_npy, array=x.cpu().numpy()))
        picture: Path = arguments.out / f"{DEMO_MODELS[0]}.png"
        try:
            check_plotting(picture)
            drawn = picture_of(listen(sources[0]), encoders[0])
        except MissingExtraError as error:
            print(f"auricle: no picture: {error}", file=sys.stderr)
        else:
            save_figure(drawn.figure, picture)
            print(f"wrote a picture of {sources[0].name} to {picture}")
        print(f"wrote the representations to {arguments.out}")
        print(
            f"{DEFAULT_MODEL} is a bundled toy model, trained on two hours of speech; `auricle "
            'list` shows\npublished models; auricle.load("tera") or --model tera downloads one'
        )
        return 0
