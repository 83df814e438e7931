"""What the command line takes: arguments, help and examples. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from auricle.cli.cache_arguments import (
    CACHE_EXAMPLES,
    CACHE_TEXT,
    CONVERT_EXAMPLES,
    CONVERT_TEXT,
    VERIFY_EXAMPLES,
    VERIFY_TEXT,
    add_cache,
    add_convert,
    add_verify,
)
from auricle.hub.locations import is_location
from auricle.hub.records import DEFAULT_MODEL
from auricle.models.families import FAMILIES

DTYPES = ("float32", "float16", "bfloat16")
DEFAULT_BATCH_SECONDS = 120.0

MODEL_HELP = (
    "a catalogue name (see `auricle list`), the path or URL of a checkpoint, or "
    "hf://owner/name[@revision][/file]"
)
LAYER_HELP = "index (negative counts from the end) or name; `auricle info` lists them"

EXTRACT_TEXT = """\
Write the representation of every audio file as one array file.

INPUT is an audio file, a folder (searched recursively for audio files), or a pattern in quotes
(* ? [] and ** across folders). Outputs keep the tree below an input folder or below the fixed
part of a pattern; a file given by itself goes to DIR/name.npy. Hidden files are left out of
folders. An output that is already there is overwritten, in one step: nobody sees half of it.

A file that cannot be encoded is reported on standard error and does not stop the others; the
exit status is 1 then.
"""
EXTRACT_EXAMPLES = """\
examples:
  auricle extract speech.wav --out features
  auricle extract LibriSpeech/dev-clean --model tera --out features
  auricle extract corpus --model vq_wav2vec --codes --out codes
  auricle extract 'corpus/**/*.wav' --model tera --layer all --format safetensors --out layers
"""
LIST_TEXT = """\
List the models of the catalogue in order of publication, baselines last.

Columns: publication date, name, paper (arXiv), input of the encoder, pretraining data, and where
the weights are: embedded (in an installed package), cached (on this machine), download, or never
published. Below a row stand the other names that the model goes by and what sets it apart.

Models that plug-ins add are among them; a plug-in that is broken is reported on standard error.
"""
LIST_EXAMPLES = """\
examples:
  auricle list
  auricle list 'tera*'
  auricle list --family npc
  auricle list --offline
"""
INFO_TEXT = """\
Show what a model is: publication, input, stride, layers, size, origin and licence.

A catalogue name works offline and downloads nothing. Where its weights are not on this machine
the architecture shown is that of the family's published sizes.
"""
INFO_EXAMPLES = """\
examples:
  auricle info tera
  auricle info path/to/states-1000000.ckpt
  auricle info hf://owner/name
"""
PLOT_TEXT = """\
Draw one utterance: waveform, log mel, representation and its self-similarity, on one time axis.

Needs matplotlib: pip install matplotlib.
"""
PLOT_EXAMPLES = """\
example:
  auricle plot utterance.flac --model tera --layer -1 --out tera.png
"""
EXPORT_TEXT = """\
Write an encoder as a folder that transformers loads to the same numbers.

For wav2vec 2.0, HuBERT, WavLM and data2vec audio. DIR, which must not be there yet or be empty,
receives config.json, preprocessor_config.json and model.safetensors, all at once.
"""
EXPORT_EXAMPLES = """\
examples:
  auricle export hubert --to transformers hubert-folder
  auricle export path/to/checkpoint_best.pt --to transformers my-wav2vec2
"""
CHECK_TEXT = """\
Check that an encoder's weights are whole: run a second of bundled speech through every layer.

Reports for each layer its frames, its dim, statistics, dims that never change ("flat"), and how
far the batch moves it in standard deviations. The exit status is 1 where something is not sound:
NaN or infinity, weights of zeros, a layer that is constant, a batch that matters.
"""
CHECK_EXAMPLES = """\
examples:
  auricle check tera
  auricle check path/to/states-1000000.ckpt
"""
DEMO_TEXT = """\
Extract representations from the speech that comes with auricle and draw them; needs no network.
"""
DEMO_EXAMPLES = """\
example:
  auricle demo --out demo
"""
PRETRAIN_TEXT = """\
Train an encoder from random weights by its family's own loss, as a recipe says.

RECIPE is a TOML file; docs/pretraining.md describes it, recipes/ holds some for every family.
DIR receives checkpoints, metrics.jsonl, TensorBoard events, a picture of the curves and, at the
end, NAME.safetensors, which every command takes as a model. Where DIR holds a checkpoint of the
same recipe and audio, training goes on from it. Ctrl-C or SIGTERM end it after a checkpoint.

Several GPUs or machines: torchrun --nproc_per_node N -m auricle pretrain ...

Needs more packages: pip install 'auricle[train]'.
"""
PRETRAIN_EXAMPLES = """\
examples:
  auricle pretrain recipes/mini/apc.toml --data LibriSpeech/train-clean-100 --out runs/apc_mini
  auricle pretrain recipes/tera.toml --data manifest.tsv --split train --out runs/tera --workers 8
"""
PROBE_TEXT = """\
Measure what the layers of frozen encoders make easy to tell, with linear classifiers.

Tasks: phones (frames; librispeech/phones.tsv), words (means over time; arabic_words), speakers
(means over time; librispeech, split speakers). FOLDER is the corpus or the folder that holds it
under that name; docs/probing.md says what must be in it. What is tested is never trained on.

DIR receives TASK.json, TASK.png (accuracy over layers) and table.md, anew after each model.
Results of other models that it holds stay there, so a comparison can grow.

Needs more packages: pip install scikit-learn matplotlib.
"""
PROBE_EXAMPLES = """\
examples:
  auricle probe --model tera --task phones --data corpora/librispeech --out probes
  auricle probe --models fbank,mel,tera --task phones,words,speakers --data corpora --out probes
"""


def build_parser(version: str) -> argparse.ArgumentParser:
    """The parser of all commands; parsed arguments name the module that runs them in `module`."""
    parser = argparse.ArgumentParser(
        prog="auricle",
        description="One interface for every self-supervised speech encoder.",
        epilog="`auricle COMMAND --help` shows a command's options and examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"auricle {version}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, summary: str, text: str, examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=text,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    _add_extract(add("extract", "write representations of files", EXTRACT_TEXT, EXTRACT_EXAMPLES))
    _add_list(add("list", "list the models", LIST_TEXT, LIST_EXAMPLES))
    _add_info(add("info", "show what a model is", INFO_TEXT, INFO_EXAMPLES))
    _add_plot(add("plot", "draw one utterance", PLOT_TEXT, PLOT_EXAMPLES))
    _add_check(add("check", "check a model's weights", CHECK_TEXT, CHECK_EXAMPLES))
    add_convert(add("convert", "write as one own file", CONVERT_TEXT, CONVERT_EXAMPLES))
    _add_export(add("export", "write for another library", EXPORT_TEXT, EXPORT_EXAMPLES))
    add_verify(add("verify", "check what is cached", VERIFY_TEXT, VERIFY_EXAMPLES))
    add_cache(add("cache", "show or empty the cache", CACHE_TEXT, CACHE_EXAMPLES))
    _add_pretrain(add("pretrain", "train an encoder", PRETRAIN_TEXT, PRETRAIN_EXAMPLES))
    _add_probe(add("probe", "measure what layers tell", PROBE_TEXT, PROBE_EXAMPLES))
    _add_demo(add("demo", "try it on bundled speech", DEMO_TEXT, DEMO_EXAMPLES))
    return parser


def _add_extract(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.extract")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="file, folder or pattern")
    _add_model(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to, made if missing"
    )
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP}, or all (default: the model's own choice)"
    )
    parser.add_argument(
        "--codes",
        action="store_true",
        help="write discrete codes, int64 (frames, codebooks), of a model with a quantiser",
    )
    parser.add_argument(
        "--format",
        choices=("npy", "safetensors"),
        default="npy",
        help="npy: one float32 array (frames, dim), with --layer all (layers, frames, dim); "
        "safetensors: a tensor for each layer by its name, and metadata (default: npy)",
    )
    parser.add_argument(
        "--channel",
        metavar="K",
        type=_whole_number,
        help="take one channel, counted from 0 (default: the mean of all channels)",
    )
    parser.add_argument(
        "--short",
        choices=("error", "pad"),
        default="error",
        help="a file shorter than the model's minimum fails, or is padded with zeros "
        "(default: error)",
    )
    parser.add_argument(
        "--batch-seconds",
        metavar="SECONDS",
        type=_positive_number,
        default=DEFAULT_BATCH_SECONDS,
        help="audio that goes through the model at once, padding included; a longer file goes "
        f"alone (default: {DEFAULT_BATCH_SECONDS:g})",
    )
    _add_device(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.listing")
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="only names like it (* ? [])"
    )
    parser.add_argument(
        "--family",
        metavar="FAMILY",
        help=f"only one family: {', '.join(FAMILIES)}, or one that a plug-in adds",
    )
    parser.add_argument(
        "--offline", action="store_true", help="only what works on this machine without a network"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.info")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)


def _add_plot(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.plot")
    parser.add_argument("file", metavar="FILE", type=Path, help="audio file")
    _add_model(parser)
    parser.add_argument(
        "--out", metavar="PICTURE", type=Path, required=True, help="file to write: .png, .pdf, .svg"
    )
    parser.add_argument(
        "--layer", metavar="LAYER", help=f"{LAYER_HELP} (default: the model's own choice)"
    )
    parser.add_argument(
        "--channel", metavar="K", type=_whole_number, help="one channel (default: their mean)"
    )
    _add_device(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.check")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    _add_checkpoint(parser)
    _add_device(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    # Weights are written as they were read into the machine's memory, in float32.
    parser.set_defaults(module="auricle.cli.export", device="cpu", dtype="float32")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--to", choices=("transformers",), required=True, help="which library is to read it"
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="folder to write")
    _add_checkpoint(parser)


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.pretrain")
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="TOML file")
    parser.add_argument(
        "--data",
        metavar="PATH",
        type=Path,
        nargs="+",
        required=True,
        help="folders, searched recursively for audio, and manifests (TSV with the columns path, "
        "samples and, if you like, split)",
    )
    parser.add_argument(
        "--split", metavar="SPLIT", help="rows of the manifests to train on, by their column split"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to, made if missing"
    )
    parser.add_argument(
        "--steps", metavar="N", type=_count, help="train so many steps instead of the recipe's"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_whole_number,
        default=1,
        help="processes that decode audio ahead of training (default: 1)",
    )
    parser.add_argument(
        "--cache-audio",
        action="store_true",
        help="decode all audio once and keep it in memory, 230 MB an hour",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train; auto takes a GPU if there is one (default: auto)",
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.demo")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("demo"),
        help="folder for arrays and picture (default: demo)",
    )


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(module="auricle.cli.probe")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    model.add_argument(
        "--models", metavar="MODEL,...", type=_words, help="several, for one table to compare them"
    )
    parser.add_argument(
        "--task",
        metavar="TASK,...",
        type=_words,
        required=True,
        help="phones, words, speakers, or several of them",
    )
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, required=True, help="the corpus of the task"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder to write results to")
    parser.add_argument(
        "--layers",
        metavar="LAYER,...",
        type=_words,
        help=f"{LAYER_HELP} (default: all whose frames are 5 ms or more apart)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_whole_number,
        default=0,
        help="decides which half of a speaker's utterances is held out (default: 0)",
    )
    _add_checkpoint(parser)
    _add_device(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: {DEFAULT_MODEL}, small and in the package; published models "
        "are better)",
    )
    _add_checkpoint(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=_path_or_url,
        help="weights for a named MODEL, from this file or URL",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        type=Path,
        help="configuration of a checkpoint that keeps it in a file of its own (PASE), where that "
        "does not lie beside it",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="cpu", help="where the model runs, as torch says it (default: cpu)"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type of the weights; outputs are float32 whatever it is (default: float32)",
    )


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words) or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return words


def _path_or_url(text: str) -> Path | str:
    return text if is_location(text) else Path(text)


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
