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

INPUT_FORMATS = ("audio", "fairseq", "table", "list", "kaldi", "lhotse", "dataset", "webdataset")
FINAL_NORMS = ("keep", "strip", "each")
COMPRESSIONS = ("auto", "two-byte", "one-byte")
FORMATS = ("store", "npy", "kaldi", "webdataset", "hdf5", "arrow", "text")

BATCH_SECONDS = 120.0
FLUSH_SECONDS = 30.0
OVERLAP_SECONDS = 5.0
SHARD_MIB = 256

SUMMARY = "write representations of a corpus"
TEXT = """\
Write the representations of a corpus into a folder that auricle.open("DIR")["ID"] reads.

INPUT is an audio file, a folder (searched recursively), a pattern in quotes (* ? [] and ** across
folders), a manifest (fairseq's or another .tsv, .csv, .parquet, .jsonl, Kaldi's wav.scp, Lhotse's
cuts), a .txt list of paths, one per line, or - for such a list on standard input, WebDataset
archives, or a Hugging Face data set (hf-dataset://NAME@SPLIT). An utterance's ID
is its path relative to the folder or to the fixed part of the pattern, without suffix, or the ID
in the manifest.

The same command resumes a run that was stopped or killed, and adds new utterances of a corpus that
has grown. Utterances that cannot be encoded are reported on standard error and in
DIR/errors.jsonl; the others are written, and the exit status is 1.
"""
REFRESH_HELP = (
    "encode utterances again whose audio has changed; for a new store, ignore the cached model: "
    "download and convert it again"
)
EXAMPLES = """\
examples:
  auricle extract speech.wav --out features
  auricle extract LibriSpeech/dev-clean --model tera --out features
  auricle extract train.tsv --model wav2vec2 --layer 6,9 --dtype float16 --out features
  auricle extract corpus --model tera --layer all --pool mean --format npy --out vectors
  auricle extract corpus --model vq_wav2vec --codes --out codes
  auricle extract corpus --units units.safetensors --deduplicate --format text --out text
  auricle extract corpus --model wavlm_large --config normalize=false --layer 6 --out knn-vc
  find corpus -name '*.wav' | auricle extract - --out features
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
        "--input-format", choices=INPUT_FORMATS, help="format of the inputs (default: detected)"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="reject audio outside this folder, symbolic links resolved",
    )
    parser.add_argument(
        "--streaming",
        action="store_true",
        help="stream Hugging Face data sets instead of downloading them first",
    )
    parser.add_argument(
        "--channel",
        metavar="K",
        type=whole_number,
        help="channel to use, counted from 0 (default: the mean of all channels)",
    )
    parser.add_argument(
        "--ids",
        choices=("relative", "path"),
        default="relative",
        help="ids of files: paths relative to the input's folder, or paths as the input gives them "
        "(default: relative)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="estimate hours of audio, frames, bytes and time, and write nothing",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as an object of JSON"
    )
    parser.add_argument(
        "--short",
        choices=("error", "pad"),
        default="error",
        help="audio shorter than the model's minimum: fail, or pad with zeros (default: error)",
    )
    parser.add_argument(
        "--on-error",
        choices=("report", "stop"),
        default="report",
        help="if an utterance cannot be encoded: report it and continue, or stop (default: report)",
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer",
        metavar="LAYERS",
        type=words,
        help=f"{LAYER_HELP}; several with commas, or all (default: the model's default layer); "
        "if the first is negative, --layer=-1,-2",
    )
    parser.add_argument(
        "--final-norm",
        choices=FINAL_NORMS,
        help="LayerNorm after the last layer, of models whose norms come first (large ones): keep "
        "it on the last layer, strip it, or apply it to each layer (default: keep, or as units do)",
    )
    parser.add_argument(
        "--weights",
        metavar="NUMBERS",
        type=numbers,
        help="write the weighted sum of the layers: one weight for each, with commas",
    )
    parser.add_argument(
        "--pool",
        choices=("mean", "max", "meanstd"),
        help="pool the frames of each utterance into one vector (default: write all frames)",
    )
    parser.add_argument(
        "--codes",
        action="store_true",
        help="write discrete codes, int64 (frames, codebooks), of a model with a quantiser",
    )
    parser.add_argument(
        "--units",
        metavar="FILE",
        type=Path,
        help="write the units of this file of `auricle units`, which names model and layer",
    )
    parser.add_argument(
        "--deduplicate",
        action="store_true",
        help="write a run of equal units as one, and its duration in frames",
    )
    parser.add_argument(
        "--other-weights",
        action="store_true",
        help="use units that were fitted with other weights of the same family",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="dtype of the representations (default: float32)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="folder to write to, created if missing, or a URL such as s3://bucket/features",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="store",
        help="store: safetensors shards with an index; npy: one file per utterance; text: codes or "
        "units as lines, beside a store; the others as their libraries read them (default: store)",
    )
    parser.add_argument(
        "--compress",
        nargs="?",
        const=COMPRESSIONS[0],
        choices=COMPRESSIONS,
        help="compress matrices of Kaldi: auto, about a byte per value, scaled by column; two-byte "
        "and one-byte, scaled as a whole (without a value: auto; without the option: float32)",
    )
    parser.add_argument(
        "--shard-mib",
        metavar="MIB",
        type=positive_number,
        default=SHARD_MIB,
        help=f"size of a shard in MiB (default: {SHARD_MIB})",
    )
    parser.add_argument(
        "--flush-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=FLUSH_SECONDS,
        help="interval at which the unfinished shard is flushed to disk; a killed run loses about "
        f"that much work (default: {FLUSH_SECONDS:g})",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="DEVICES",
        type=words,
        default=["auto"],
        help="torch device, or several with commas (default: auto: all GPUs, else the CPU)",
    )
    add_precision(parser)
    parser.add_argument(
        "--batch-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=BATCH_SECONDS,
        help="seconds of audio in a batch, padding included; a longer file is a batch of its own "
        f"(default: {BATCH_SECONDS:g})",
    )
    parser.add_argument(
        "--window-seconds",
        metavar="SECONDS",
        type=positive_number,
        help="encode longer audio in overlapping windows, each as an utterance: faster with "
        "attention, not exact (default: no windows)",
    )
    parser.add_argument(
        "--overlap-seconds",
        metavar="SECONDS",
        type=positive_number,
        default=OVERLAP_SECONDS,
        help=f"overlap of neighbouring windows (default: {OVERLAP_SECONDS:g})",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number,
        help="decoding processes per device; 0 decodes in a thread (default: chosen automatically)",
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
        help="address of the Ray cluster; auto for that of this machine (default: start one)",
    )
    parser.add_argument(
        "--actors",
        metavar="N",
        type=count,
        help="number of encoding actors on the cluster (default: as many as fit)",
    )


def numbers(text: str) -> list[float]:
    """Parse comma-separated numbers."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, got {text!r}"
        ) from None


def run(arguments: argparse.Namespace) -> int:
    """Extract a corpus; the status is 1 if an utterance failed.

    Raises:
        AuricleError: Nothing can be extracted, or nothing more can be written.
    """
    from auricle.cli.progress import ProgressBars, print_forecast, print_json, print_summary
    from auricle.extraction.extract import extract

    _check(arguments)
    if "://" not in arguments.out:
        check_folder(Path(arguments.out))
    if arguments.units is None:
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
            devices=arguments.device,
            layers=_layers(arguments.layer),
            final_norm=arguments.final_norm,
            weights=arguments.weights,
            pool=arguments.pool,
            codes=arguments.codes,
            units=arguments.units,
            deduplicate=arguments.deduplicate,
            check_weights=not arguments.other_weights,
            dtype=arguments.dtype,
            output_format=arguments.format,
            compress=arguments.compress,
            input_format=arguments.input_format,
            root=arguments.root,
            streaming=arguments.streaming,
            channel=arguments.channel,
            ids=arguments.ids,
            window_seconds=arguments.window_seconds,
            overlap_seconds=arguments.overlap_seconds,
            pad_short=arguments.short == "pad",
            on_error=arguments.on_error,
            batch_seconds=arguments.batch_seconds,
            shard_bytes=round(arguments.shard_mib * (1 << 20)),
            num_workers=arguments.workers,
            engine=arguments.engine,
            address=arguments.address,
            num_actors=arguments.actors,
            flush_seconds=arguments.flush_seconds,
            dry_run=arguments.dry_run,
            progress=progress,
        )
    if arguments.json:
        print_json(summary, arguments.out, progress.elapsed)
    elif arguments.dry_run:
        print_forecast(summary, arguments.out)
    else:
        print_summary(summary, arguments, progress.elapsed)
    # Failed rows of a stream are not retried, so earlier failures still count.
    is_short_of = summary.num_failed or (arguments.streaming and summary.num_failed_before)
    return 1 if is_short_of else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise AuricleError if options contradict each other."""
    if arguments.codes and arguments.layer is not None:
        raise AuricleError("--codes are those of the quantiser's own layer; leave --layer out")
    if arguments.engine == "local" and (arguments.address or arguments.actors):
        raise AuricleError("--address and --actors go with --engine ray; add it or leave them out")
    if arguments.engine == "ray" and arguments.device != ["auto"]:
        raise AuricleError("--engine ray uses the devices of the cluster; leave --device out")


def _layers(texts: list[str] | None) -> Layers | None:
    if texts is None or texts == ["all"]:
        return None if texts is None else "all"
    return [layer for text in texts if (layer := layer_argument(text)) is not None]
