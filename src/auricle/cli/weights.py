"""Commands on files of weights: `auricle convert`, `export`, `cache` and `verify`.

`auricle verify` also compares the files of a store with their digests.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.cli.options import (
    DTYPES,
    LAYER_HELP,
    MODEL_HELP,
    add_weights,
    configuration,
    layer_argument,
    load_encoder,
)
from auricle.errors import AuricleError, OutputError
from auricle.hub.location import is_location

if TYPE_CHECKING:
    from auricle.hub.contents import Item
    from auricle.store.folder import Folder

MODEL_SCHEMES = ("http://", "https://", "hf://")
"""Schemes of URLs of models; others are URLs of stores."""

STATES = ("whole", "changed", "unknown", "missing")

CACHE_HEADER = ("name", "kind", "bytes", "modified")


class Verify:
    """The command `auricle verify`."""

    SUMMARY = "verify the digests of cached files or of a store"
    TEXT = """\
Verify the digests of cached files and of the models in the package, or those of a store of
representations.

Originals are compared with the catalogue and with the digest recorded when they were downloaded,
conversions with the digest recorded when they were written; files reported as unknown have no
recorded digest. For a changed file the command that repairs it is printed. The exit status is 1 if
a file has changed, or if a named model is not on this machine.

In a folder that `auricle extract` wrote, every file is compared with the digest recorded when it
was written; for a damaged one the repair is printed.
"""
    EXAMPLES = """\
examples:
  auricle verify
  auricle verify tera hubert
  auricle verify features/
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the names of what to verify."""
        parser.add_argument(
            "names",
            metavar="NAME",
            nargs="*",
            help="models, URLs, or folders of representations (default: all cached and bundled "
            "models)",
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Print a line for each file; the status is 1 if a file has changed or is missing.

        Raises:
            UnknownModelError: There is no such model.
            StoreError: A folder is not a store.
        """
        counts: Counter[str] = Counter()
        for name in arguments.names or (None,):
            counts += _verify_named(name) if name is not None else _verify_models(None)
        print(", ".join(f"{counts[state]} {state}" for state in STATES))
        return 1 if counts["changed"] or counts["missing"] else 0


def _verify_named(name: str) -> Counter[str]:
    folder = _store_folder(name)
    return _verify_models(name) if folder is None else _verify_store(name, folder)


def _verify_models(name: str | None) -> Counter[str]:
    from auricle.hub.contents import shown, verify

    counts: Counter[str] = Counter()
    for finding in verify(() if name is None else (name,)):
        counts[finding.state] += 1
        line = f"{finding.state:<8} {finding.name}  {shown(finding.path)}"
        print(f"{line}: {finding.reason}" if finding.reason else line)
        if finding.remedy:
            print(f"{'':<8} repair: {finding.remedy}")
    if name is not None and not counts:
        counts["missing"] += 1
        print(f"missing  {name}: not on this machine")
    return counts


def _store_folder(name: str) -> Folder | None:
    """Open the folder of a store by name; None if the name is that of a model."""
    from auricle.hub.location import looks_like_path
    from auricle.store.folder import LocalFolder, open_folder

    if is_location(name):
        folder = None if name.lower().startswith(MODEL_SCHEMES) else open_folder(name)
        is_file = isinstance(folder, LocalFolder) and not folder.path.is_dir()
        return None if is_file else folder
    is_store = looks_like_path(name) and Path(name).is_dir()
    return LocalFolder(Path(name)) if is_store else None


def _verify_store(name: str, folder: Folder) -> Counter[str]:
    from auricle.store.reader import open as open_store
    from auricle.store.shards import verify

    counts: Counter[str] = Counter()
    for damage in verify(folder):
        state = "missing" if damage.reason == "is not there" else "changed"
        counts[state] += 1
        print(f"{state:<8} {name}  {damage.file}: {damage.reason}")
        print(f"{'':<8} repair: {damage.remedy}")
    if not counts:
        counts["whole"] += 1
        store = open_store(name)
        line = f"{'whole':<8} {name}  {len(store)} utterances"
        unfinished = "; unfinished, run the same extraction to complete it"
        print(line if store.is_closed else f"{line}{unfinished}")
    return counts


class Cache:
    """The command `auricle cache`."""

    SUMMARY = "show or empty the cache"
    TEXT = """\
Show and remove downloaded weights, which are kept in AURICLE_CACHE or the user's cache folder.

path prints the folder, list its contents; a digest is listed if its original was removed.
remove does not ask for confirmation, and prints the bytes freed:
  remove NAME         all files of one model, and its pinned digest
  remove --all        all files of all models
  --originals         only downloads: conversions stay and load, and so do the digests
  --converted         only conversions: the next load converts again
"""
    EXAMPLES = """\
examples:
  auricle cache path
  auricle cache list
  auricle cache remove tera
  auricle cache remove --originals
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the actions and their arguments."""
        parser.set_defaults(parser=parser)
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("path", help="print the folder", allow_abbrev=False)
        actions.add_parser("list", help="list its contents", allow_abbrev=False)
        remove = actions.add_parser("remove", help="remove some or all of it", allow_abbrev=False)
        remove.add_argument("name", metavar="NAME", nargs="?", help="a model, or a URL")
        remove.add_argument("--all", action="store_true", help="all models")
        kind = remove.add_mutually_exclusive_group()
        kind.add_argument("--originals", action="store_true", help="only downloads")
        kind.add_argument("--converted", action="store_true", help="only conversions")

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the folder or its contents, or remove from it.

        Raises:
            UnknownModelError: There is no such model.
            OutputError: Something cannot be removed.
            AuricleError: Nothing, or too much, is selected for removal.
        """
        if arguments.action is None:
            arguments.parser.exit(2, arguments.parser.format_help())
        if arguments.action == "path":
            from auricle.hub.cache import cache_folder

            print(cache_folder())
        elif arguments.action == "list":
            _list_cache()
        else:
            _remove(arguments)
        return 0


def _list_cache() -> None:
    from auricle.hub.cache import cache_folder
    from auricle.hub.contents import items

    found = items()
    originals = {item.path for item in found if item.kind == "original"}
    # A digest is listed only without its original, when it still pins later downloads.
    shown = [i for i in found if i.kind != "digest" or i.path.with_suffix("") not in originals]
    rows = [CACHE_HEADER, *map(_cache_row, shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, kind, size, written in rows:
        print(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {size:>{widths[2]}}  {written}")
    print(f"{sum(item.num_bytes for item in found):,} bytes in {cache_folder()}")


def _cache_row(item: Item) -> tuple[str, ...]:
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.modified))
    return item.name, item.kind, f"{item.num_bytes:,}", date


def _remove(arguments: argparse.Namespace) -> None:
    from auricle.hub.contents import items, items_of, remove

    only = {"original"} if arguments.originals else {"converted"} if arguments.converted else None
    if not (arguments.name or arguments.all or only):
        raise AuricleError(
            "nothing selected to remove: pass NAME, --all, --originals or --converted"
        )
    if arguments.name and arguments.all:
        raise AuricleError("remove takes NAME or --all, not both")
    found = items() if arguments.name is None else items_of(arguments.name)
    chosen = [item for item in found if only is None or item.kind in only]
    num_bytes = 0
    for item in chosen:
        num_bytes += remove(item)
        print(f"removed {item.name}, {item.kind}: {item.num_bytes:,} bytes, {item.path}")
    print(f"freed {num_bytes:,} bytes" if chosen else "nothing to remove")


class Convert:
    """The command `auricle convert`."""

    SUMMARY = "convert a checkpoint to one safetensors file"
    TEXT = """\
Convert a checkpoint to one .safetensors file in auricle's own format.

The file holds weights, configuration and provenance (URL, sha256, licence where known), needs no
unpickling, and is memory-mapped when loaded. CKPT is a file or folder, a URL, or a name of the
catalogue. An existing FILE is replaced atomically.
"""
    EXAMPLES = """\
examples:
  auricle convert states-1000000.ckpt --out tera.safetensors
  auricle convert FE_e199.ckpt --model pase --config PASE+.cfg --out pase.safetensors
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the checkpoint, the file to write and the type of its weights."""
        checkpoint = "file, folder, URL or catalogue name"
        parser.add_argument("checkpoint", metavar="CKPT", help=checkpoint)
        parser.add_argument(
            "--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write"
        )
        parser.add_argument(
            "--model",
            "--family",
            metavar="FAMILY_OR_NAME",
            help="model or family of the checkpoint (default: detected)",
        )
        parser.add_argument(
            "--config",
            metavar="CONFIG",
            type=configuration,
            help="its configuration, a file where that is elsewhere (PASE) or the checkpoint has "
            "tensors only; or fields to change, such as normalize=false",
        )
        without = "leave out adapters of the checkpoint (MMS for recognition), which are refused"
        parser.add_argument("--without-adapters", action="store_true", help=without)
        refresh = "ignore the cache: download again, also if the file has changed since"
        parser.add_argument("--refresh", action="store_true", help=refresh)
        dtype = "dtype of the weights (default: float32)"
        parser.add_argument("--dtype", choices=DTYPES, default="float32", help=dtype)

    def run(self, arguments: argparse.Namespace) -> int:
        """Write the file and print what it holds.

        Raises:
            AuricleError: The checkpoint cannot be loaded, or the file not written.
        """
        if arguments.out.suffix != ".safetensors":
            raise OutputError(
                f"cannot write {arguments.out}: expected a name that ends in .safetensors"
            )
        import torch

        from auricle.files.atomic import file_sha256
        from auricle.hub.load import load

        dtype: torch.dtype = getattr(torch, arguments.dtype)
        source: str = arguments.checkpoint
        name, checkpoint = (source, None) if arguments.model is None else (arguments.model, source)
        encoder = load(
            name,
            checkpoint=checkpoint,
            config=arguments.config,
            device="cpu",
            refresh=arguments.refresh,
            without_adapters=arguments.without_adapters,
        ).to(dtype)
        provenance = encoder.provenance
        if provenance.sha256 is None and Path(source).is_file():
            provenance = dataclasses.replace(provenance, sha256=file_sha256(Path(source)))
        encoder.save(arguments.out, provenance=provenance)
        info = encoder.info
        print(
            f"wrote {arguments.out}: {info.name}, family {info.family}, {info.num_parameters:,} "
            f"parameters, {arguments.dtype}, {arguments.out.stat().st_size:,} bytes"
        )
        if encoder.unused_keys:
            print(f"{len(encoder.unused_keys)} keys of the checkpoint are not used by the encoder")
        return 0


class Export:
    """The command `auricle export`."""

    SUMMARY = "export an encoder to transformers or ONNX"

    TEXT = """\
Export an encoder as a folder that transformers or ONNX Runtime loads, with the same numbers.

transformers: for wav2vec 2.0, its Conformer, omniASR, HuBERT, UniSpeech-SAT, WavLM, data2vec audio,
w2v-BERT 2.0 and Whisper. DIR, which must be empty or not exist, receives config.json,
preprocessor_config.json and model.safetensors, all at once.

onnx: one layer, for one waveform of any length. DIR receives model.onnx and auricle.json, after
ONNX Runtime's frames have been compared with the library's. Needs more packages: pip install
'.[onnx]'.
"""

    EXAMPLES = """\
examples:
  auricle export hubert --to transformers hubert-folder
  auricle export path/to/checkpoint_best.pt --to transformers my-wav2vec2
  auricle export apc_mini --to onnx apc-onnx
  auricle export wavlm_base --to onnx wavlm-onnx --layer 9
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the model, the library and the folder to write."""
        # Weights are written from memory, in float32.
        parser.set_defaults(device="cpu", precision="float32")
        parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
        libraries = ("transformers", "onnx")
        parser.add_argument("--to", choices=libraries, required=True, help="library to export to")
        parser.add_argument("out", metavar="DIR", type=Path, help="folder to write")
        parser.add_argument(
            "--layer", metavar="LAYER", help=f"onnx: {LAYER_HELP} (default: the model's default)"
        )
        parser.add_argument(
            "--final-norm",
            choices=("keep", "strip", "each"),
            default="keep",
            help="onnx: the norm after the last layer (default: keep)",
        )
        add_weights(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Write the folder and print its path.

        Raises:
            AuricleError: The model cannot be loaded, or has no equivalent in the other library.
            OutputError: The folder is not empty, or cannot be written.
        """
        from auricle.files.atomic import refuse_used_folder

        refuse_used_folder(arguments.out)  # before the weights are fetched
        if arguments.to == "onnx":
            return _run_onnx(arguments)
        if arguments.layer is not None or arguments.final_norm != "keep":
            raise AuricleError(
                "--layer and --final-norm are for --to onnx: transformers gets the whole encoder"
            )
        from auricle.checkpoints.export import export_to_transformers

        encoder = load_encoder(arguments)
        export_to_transformers(encoder, arguments.out)
        print(
            f"wrote {encoder.info.name} to {arguments.out}; in Python: "
            f'transformers.AutoModel.from_pretrained("{arguments.out}")'
        )
        return 0


def _run_onnx(arguments: argparse.Namespace) -> int:
    from auricle.checkpoints.onnx import MODEL_FILE, check_packages, export_to_onnx

    check_packages()
    encoder = load_encoder(arguments)
    layer = arguments.layer and layer_argument(arguments.layer)
    export_to_onnx(encoder, arguments.out, layer=layer, final_norm=arguments.final_norm)
    print(
        f"wrote {encoder.info.name} to {arguments.out}; in Python: onnxruntime.InferenceSession("
        f'"{arguments.out / MODEL_FILE}").run(None, {{"waveform": samples}})'
    )
    return 0
