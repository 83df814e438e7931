"""Arguments of `auricle extract`."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.arguments.shared import (
    DTYPES,
    LAYER_HELP,
    add_model,
    add_precision,
    count,
    positive_number,
    whole_number,
    words,
)

INPUT_FORMATS = ("audio", "fairseq", "table", "kaldi", "lhotse", "dataset", "webdataset")
FORMATS = ("store", "npy", "kaldi", "webdataset", "hdf5", "arrow")

BATCH_SECONDS = 120.0
FLUSH_SECONDS = 30.0
OVERLAP_SECONDS = 5.0
SHARD_MIB = 256

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
    """Add them to the parser of the command."""
    parser.set_defaults(module="auricle.cli.extract")
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
