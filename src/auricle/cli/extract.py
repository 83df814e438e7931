"""`auricle extract`: extract representations of a corpus, with a progress bar."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.cli.options import (
    DTYPES,
    LAYER_HELP,
    add_model,
    add_precision,
    check_folder,
    choose_model,
    count,
    layer_argument,
    positive_number,
    whole_number,
    words,
)
from auricle.errors import AuricleError

if TYPE_CHECKING:
    from auricle.extraction.extract import Layers
    from auricle.extraction.run import Summary

INPUT_FORMATS = ("audio", "fairseq", "table", "kaldi", "lhotse", "dataset", "webdataset")
FORMATS = ("store", "npy", "kaldi", "webdataset", "hdf5", "arrow")

BATCH_SECONDS = 120.0
FLUSH_SECONDS = 30.0
OVERLAP_SECONDS = 5.0
SHARD_MIB = 256

BYTES_PER_MIB = 1 << 20

SUMMARY = "write representations of a corpus"
TEXT = """\
Write the representations of a corpus into a folder that auricle.open("DIR")["ID"] reads.

INPUT is an audio file, a folder (searched recursively), a pattern in quotes (* ? [] and ** across
folders), a manifest (fairseq's or another .tsv, .csv, .parquet, .jsonl, Kaldi's wav.scp, Lhotse's
cuts), WebDataset archives, or a Hugging Face data set (hf-dataset://NAME@SPLIT). An utterance's ID
is its path below the folder or below the fixed part of the pattern, without suffix, or what the
manifest says.

A run that was stopped, or killed, goes on when the same command is given again; over a corpus that
has grown it does what is new. What cannot be encoded is reported on standard error and in
DIR/errors.jsonl and does not stop the rest; the exit status is 1 then.
"""
REFRESH_HELP = (
    "encode again what the store holds under ids whose audio is another one now; for a new store, "
    "download and convert again what is cached of the model"
)
EXAMPLES = """\
examples:
  auricle extract speech.wav --out features
  auricle extract LibriSpeech/dev-clean --model tera --out features
  auricle extract train.tsv --model wav2vec2 --layer 6,9 --dtype float16 --out features
  auricle extract corpus --model tera --layer all --pool mean --format npy --out vectors
  auricle extract corpus --model vq_wav2vec --codes --out codes
  auricle extract data/train/wav.scp --format kaldi --out feats
  auricle extract hf-dataset://owner/name@train --streaming --out features
  auricle extract corpus --model tera --engine ray --address auto --out s3://bucket/features
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add inputs, model, selection, output and engine."""
    _add_inputs(parser)
    add_model(parser, refresh_help=REFRESH_HELP)
    _add_selection(parser)
    _add_output(parser)
    _add_engine(parser)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="file, folder, pattern, manifest or data set"
    )
    parser.add_argument(
        "--input-format",
        choices=INPUT_FORMATS,
        help="what the inputs are, where that is not to be told by looking",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="folder that no audio may lie outside of, links followed",
    )
    parser.add_argument(
        "--streaming",
        action="store_true",
        help="read Hugging Face data sets row after row, without downloading them first",
    )
    parser.add_argument(
        "--channel",
        metavar="K",
        type=whole_number,
        help="take one channel, counted from 0 (default: the mean of all channels)",
    )
    parser.add_argument(
        "--ids",
        choices=("relative", "path"),
        default="relative",
        help="ids of files: their paths below the input's folder, or all of their paths as the "
        "input gives them (default: relative)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many hours, frames and bytes it would be and how long it would take, and "
        "write nothing",
    )
    parser.add_argument(
        "--short",
        choices=("error", "pad"),
        default="error",
        help="audio shorter than the model's minimum fails, or is padded with zeros "
        "(default: error)",
    )
    parser.add_argument(
        "--on-error",
        choices=("report", "stop"),
        default="report",
        help="go on past what cannot be encoded, or stop there (default: report)",
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer",
        metavar="LAYERS",
        type=words,
        help=f"{LAYER_HELP}; several with commas, or all (default: the model's own choice); "
        "where the first is negative, --layer=-1,-2",
    )
    parser.add_argument(
        "--weights",
        metavar="NUMBERS",
        type=numbers,
        help="keep the sum of the layers under these weights, with commas, one each",
    )
    parser.add_argument(
        "--pool",
        choices=("mean", "max", "meanstd"),
        help="keep one vector of all frames (default: every frame)",
    )
    parser.add_argument(
        "--codes",
        action="store_true",
        help="keep discrete codes, int64 (frames, codebooks), of a model with a quantiser",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type of what is kept (default: float32)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder to write to, made if missing, or an address such as s3://bucket/features",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="store",
        help="store: safetensors shards with an index; npy: a file each; the others as their own "
        "libraries read them (default: store)",
    )
    parser.add_argument(
        "--shard-mib",
        metavar="MIB",
        type=positive_number,
        default=SHARD_MIB,
        help=f"size at which a shard ends, in MiB (default: {SHARD_MIB})",
    )
    parser.add_argument(
        "--flush-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=FLUSH_SECONDS,
        help="flush what is encoded of a shard that is not whole this often; a kill loses about as "
        f"much (default: {FLUSH_SECONDS:g})",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="DEVICES",
        type=words,
        default=["auto"],
        help="where the model runs, as torch says it, several with commas (default: auto, all "
        "GPUs, or the CPU where there are none)",
    )
    add_precision(parser)
    parser.add_argument(
        "--batch-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=BATCH_SECONDS,
        help="audio that goes through the model at once, padding included; a longer file goes "
        f"alone (default: {BATCH_SECONDS:g})",
    )
    parser.add_argument(
        "--window-seconds",
        metavar="SECONDS",
        type=positive_number,
        help="encode longer audio in windows with overlap, each like an utterance of its own: "
        "faster with attention, not exact (default: whole)",
    )
    parser.add_argument(
        "--overlap-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=OVERLAP_SECONDS,
        help=f"what neighbouring windows have in common (default: {OVERLAP_SECONDS:g})",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number,
        help="processes that decode for each device; 0 for a thread (default: what suits)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: this machine; ray: a Ray cluster (default: local)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the Ray cluster; auto for the one that this machine is in (default: start one)",
    )
    parser.add_argument(
        "--actors",
        metavar="N",
        type=count,
        help="processes that encode on the cluster (default: as many as fit)",
    )


def numbers(text: str) -> list[float]:
    """Several numbers, with commas between them."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, got {text!r}"
        ) from None


def run(arguments: argparse.Namespace) -> int:
    """Extract as the arguments say; the status is 1 if something failed.

    Raises:
        AuricleError: Nothing can be extracted, or nothing more can be written.
    """
    from auricle.cli.progress import ProgressBars
    from auricle.extraction.extract import extract

    _check(arguments)
    if "://" not in arguments.out:
        check_folder(Path(arguments.out))
    choose_model(arguments)
    with ProgressBars() as progress:
        summary = extract(
            arguments.inputs,
            arguments.out,
            model=arguments.model,
            checkpoint=arguments.checkpoint,
            config=arguments.config,
            refresh=arguments.refresh,
            precision=arguments.precision,
            devices=() if arguments.device == ["auto"] else arguments.device,
            layers=_layers(arguments.layer),
            weights=arguments.weights,
            pool=arguments.pool,
            codes=arguments.codes,
            dtype=arguments.dtype,
            output_format=arguments.format,
            input_format=arguments.input_format,
            root=arguments.root,
            streaming=arguments.streaming,
            channel=arguments.channel,
            ids=arguments.ids,
            window_seconds=arguments.window_seconds,
            overlap_seconds=arguments.overlap_seconds,
            short=arguments.short,
            on_error=arguments.on_error,
            batch_seconds=arguments.batch_seconds,
            shard_bytes=round(arguments.shard_mib * BYTES_PER_MIB),
            num_workers=arguments.workers,
            engine=arguments.engine,
            address=arguments.address,
            num_actors=arguments.actors,
            flush_seconds=arguments.flush_seconds,
            dry_run=arguments.dry_run,
            progress=progress,
        )
    if arguments.dry_run:
        _forecast(summary, arguments.out)
        return 1 if summary.num_failed else 0
    _report(summary, arguments, progress.elapsed)
    # Rows of a stream that failed are not tried again, and must not look as if they had not.
    is_short_of = summary.num_failed or (arguments.streaming and summary.num_failed_before)
    return 1 if is_short_of else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise AuricleError where options contradict each other."""
    if arguments.codes and arguments.layer is not None:
        raise AuricleError("--codes come from the quantiser's own layer; leave --layer out")
    if arguments.engine == "local" and (arguments.address or arguments.actors):
        raise AuricleError("--address and --actors go with --engine ray; add it or leave them out")
    if arguments.engine == "ray" and arguments.device != ["auto"]:
        raise AuricleError("--engine ray takes the cluster's own devices; leave --device out")


def _layers(texts: list[str] | None) -> Layers | None:
    if texts is None or texts == ["all"]:
        return None if texts is None else "all"
    return [layer for text in texts if (layer := layer_argument(text)) is not None]


def _forecast(summary: Summary, out: str) -> None:
    """Say what a run would do."""
    from auricle.extraction.forecast import span

    frames = f"{summary.num_frames:,} frames"
    print(
        f"would write {summary.num_encoded} utterances to {out}; {summary.num_before} are there "
        f"already; {summary.num_failed} cannot be read"
    )
    if summary.num_encoded:
        expected = summary.expected_seconds
        takes = "a time that was not measured" if expected is None else f"about {span(expected)}"
        print(
            f"{summary.seconds / 3600:.2f} h of audio, {frames} a layer, "
            f"{summary.num_bytes / BYTES_PER_MIB:,.1f} MiB, in {takes}; nothing was written"
        )


def _report(summary: Summary, arguments: argparse.Namespace, elapsed: float) -> None:
    """Say what was done, what bound the run, and how to read what is there."""
    out = arguments.out
    num_all = summary.num_encoded + summary.num_failed
    parts = [f"wrote {summary.num_encoded} of {num_all} utterances to {out}"]
    if not num_all:
        parts = [f"nothing is new for {out}"]
    if summary.num_before:
        parts.append(f"{summary.num_before} were there before")
    if summary.num_failed:
        parts.append(f"{summary.num_failed} failed, see errors.jsonl there")
    if summary.num_failed_before:
        again = "; remove streams.json there to try them again" if arguments.streaming else ""
        parts.append(f"{summary.num_failed_before} failed in earlier runs{again}")
    print("; ".join(parts))
    if summary.num_encoded:
        print(
            f"{summary.seconds:.1f} s of audio in {elapsed:.1f} s, {summary.seconds / elapsed:.1f} "
            f"x real time; {100 * summary.padding:.1f} % padding; {summary.stages.summary}"
        )
        print(f"read them by id: auricle.open({out!r})[{summary.example!r}]")
