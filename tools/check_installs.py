"""Install each extra alone, and all dependencies in the lowest versions allowed; use each of them.

`make installs` runs it after the tests' environment is there: the extras share that environment's
torch and the other dependencies of the library, so that only what an extra brings is installed.
The lowest versions get an environment of their own, torch included unless `--keep-torch` links this
environment's (the lowest comes with gigabytes of CUDA). What is used of an extra runs
in its environment by `check_installs.py --use EXTRA`, which imports the standard library alone
until then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environments import closure, install, link, make_environment, run

ROOT = Path(__file__).parents[1]
PACKAGE = "auricle"
NOT_FOR_USERS = ("dev",)
"""Extras that are not checked: the environment of the tests is one."""

WITHOUT_LOWEST = ("docs",)
"""Extras whose lowest versions are not checked: only this repository is built with them."""

NUM_AT_ONCE = 2


def use(python: Path, extra: str) -> None:
    """Use what an extra is for, in the environment of an interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-W", "ignore", Path(__file__).resolve(), "--use", extra, cwd=Path(folder))


def check_extra(folder: Path, base: Path, wheel: Path, extra: str) -> None:
    """Install one extra, or with "" none, and use it."""
    python = make_environment(folder / (extra or "alone"), base)
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    install(python, "--constraint", str(ROOT / "constraints.txt"), wanted)
    use(python, extra)


def check_lowest(folder: Path, base: Path | None, wheel: Path, extras: Sequence[str]) -> None:
    """Install the lowest versions that are allowed of all dependencies, and use all extras.

    Torch is the one in `base`, where that is given.
    """
    python = make_environment(folder / "lowest", base)
    tested = [extra for extra in extras if extra not in WITHOUT_LOWEST]
    pins = folder / "lowest.txt"
    kept = ("torch==",) if base is not None else ()
    wanted = [pin for pin in lowest(requirements(tested)) if not pin.startswith(kept)]
    pins.write_text("\n".join(wanted) + "\n")
    install(python, "--constraint", str(pins), f"{wheel}[{','.join(filter(None, tested))}]")
    for extra in tested:
        use(python, extra)


def requirements(extras: Sequence[str]) -> list[str]:
    """Requirements of pyproject.toml with the given extras, without the library itself."""
    import tomli

    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for e in extras if e for text in optional[e])]
    return [text for text in texts if not text.startswith(f"{PACKAGE}[")]


def lowest(texts: Sequence[str]) -> list[str]:
    """Pins to the lower bounds of requirements.

    Raises:
        ValueError: A requirement has no lower bound.
    """
    from packaging.requirements import Requirement

    pins = []
    for text in texts:
        required = Requirement(text)
        bounds = [one.version for one in required.specifier if one.operator in (">=", "==")]
        if len(bounds) != 1:
            raise ValueError(f"{text} has no lower bound")
        pins.append(f"{required.name}=={bounds[0]}")
    return pins


def extras_for_users() -> list[str]:
    """The extras of pyproject.toml that are checked; "" stands for none of them."""
    import tomli

    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return ["", *(e for e in project["optional-dependencies"] if e not in NOT_FOR_USERS)]


# What follows runs in the environment of an extra.


def auricle(*arguments: str) -> None:
    """Run the command; raises RuntimeError where it fails."""
    from auricle.__main__ import main

    if main(arguments) != 0:
        raise RuntimeError(f"auricle {' '.join(arguments)} failed")


def speech() -> str:
    """The folder of the bundled speech."""
    from auricle.audio.inputs import sample_paths

    return str(sample_paths()[0].parent)


def use_nothing() -> None:
    """Encode with everything in the package, and write and read a store."""
    import torch

    import auricle as library

    waveform = 0.1 * torch.randn(16_000)
    names = [name for name in library.list_models() if name.endswith("_mini")]
    for name in (*names, "fbank", "mel", "mfcc", "spectrogram"):
        with torch.inference_mode():
            alone = library.load(name)([waveform])
        if not bool(alone[0].isfinite().all()):
            raise RuntimeError(f"{name} gives values that are not finite")
    auricle("extract", speech(), "--model", "tera_mini", "--dtype", "float16", "--out", "store")
    store = library.open("store")
    if len(store) != 2 or store[store.ids[0]].dtype != torch.float16:
        raise RuntimeError("the store does not hold what was written")
    auricle("verify", "store")


def use_plot() -> None:
    """Draw a picture with labels of a TextGrid."""
    Path("labels.TextGrid").write_text(TEXT_GRID)
    wave = str(next(Path(speech()).glob("*.flac")))
    auricle("plot", wave, "--labels", "labels.TextGrid", "--out", "picture.png")


def use_explore() -> None:
    """Serve the page and fetch it."""
    from urllib.request import urlopen

    from auricle.explore.page import serve

    with serve() as address, urlopen(address) as answer:  # noqa: S310 - our own server
        if b"gradio" not in answer.read():
            raise RuntimeError("the page is not there")


def use_train() -> None:
    """Pretrain for two steps."""
    Path("recipe.toml").write_text(RECIPE)
    options = ("--data", speech(), "--out", "out", "--device", "cpu", "--workers", "0")
    auricle("pretrain", "recipe.toml", *options)


def use_probe() -> None:
    """Probe two words."""
    import numpy as np
    import soundfile

    folder = Path("arabic_words")
    folder.mkdir()
    rows = ["path\tsplit\tword"]
    for take in range(8):
        pitch = 300 if take % 2 else 2000
        wave = np.sin(2 * np.pi * pitch * np.arange(1600 + take) / 16_000) / 4
        soundfile.write(folder / f"{take}.wav", wave, 16_000)
        rows.append(f"{take}.wav\t{'test' if take > 5 else 'train'}\t{pitch}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    auricle("probe", "--data", ".", "--task", "words", "--models", "fbank", "--out", "probes")


def use_completion() -> None:
    """Print what a shell completes by."""
    auricle("--print-completion", "bash")


def use_onnx() -> None:
    """Write an ONNX model, which is run and compared on the way."""
    auricle("export", "fbank", "--to", "onnx", "fbank-onnx")


def use_formats() -> None:
    """Write every format, and read lists of Lhotse, data sets and tables."""
    import datasets

    import auricle as library

    for form in ("hdf5", "kaldi", "webdataset", "arrow"):
        auricle("extract", speech(), "--model", "fbank", "--format", form, "--out", form)
        library.open(form).to_pandas()
    wave = str(next(Path(speech()).glob("*.flac")))
    recording = {
        "id": "a", "sampling_rate": 16_000, "num_samples": 80_000, "duration": 5.0,
        "channel_ids": [0], "sources": [{"type": "file", "channels": [0], "source": wave}],
    }  # fmt: skip
    cut = {"id": "c", "start": 1.0, "duration": 2.0, "channel": 0, "type": "MonoCut"}
    Path("cuts.jsonl").write_text(json.dumps(cut | {"recording": recording}) + "\n")
    auricle("extract", "cuts.jsonl", "--model", "fbank", "--out", "of-cuts")
    # Bytes as they are: the library's own type of audio needs torchcodec to be written.
    cells = {"audio": [{"bytes": Path(wave).read_bytes(), "path": "a.flac"}]}
    datasets.Dataset.from_dict(cells).save_to_disk("saved")
    auricle("extract", "saved", "--model", "fbank", "--out", "of-dataset")


def use_ray() -> None:
    """Extract by Ray's workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    auricle("extract", speech(), "--model", "fbank", "--engine", "ray", "--out", "store")


def use_peers() -> None:
    """Give an encoder to transformers."""
    auricle("export", "wav2vec2_mini", "--to", "transformers", "exported")
    from transformers import AutoModel

    AutoModel.from_pretrained("exported")


def use_docs() -> None:
    """Read the configuration of the documentation, with its theme and its plug-ins."""
    from mkdocs.config import load_config

    load_config(str(ROOT / "mkdocs.yml"))


USES: dict[str, Callable[[], None]] = {
    "": use_nothing,
    "plot": use_plot,
    "explore": use_explore,
    "train": use_train,
    "probe": use_probe,
    "formats": use_formats,
    "completion": use_completion,
    "onnx": use_onnx,
    "ray": use_ray,
    "peers": use_peers,
    "docs": use_docs,
}
"""Extra -> what is done with it."""

RECIPE = """\
[recipe]
name = "tiny"
family = "apc"
steps = 2

[encoder]
num_layers = 1
hidden_size = 8

[data]
batch_seconds = 8.0

[optimizer]
learning_rate = 1e-3
"""

TEXT_GRID = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "a"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what is named, or everything; the status is 1 where something fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--use", choices=USES, help="use an extra in this environment")
    parser.add_argument(
        "--keep-torch", action="store_true", help="the lowest versions beside this torch"
    )
    parser.add_argument("names", nargs="*", help='extras, "alone" (no extra) or "lowest"')
    options = parser.parse_args(arguments)
    if options.use is not None:
        USES[options.use]()
        return 0
    extras = extras_for_users()
    with tempfile.TemporaryDirectory(prefix="auricle-installs-") as text:
        folder = Path(text)
        pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet")
        run(*pip, "--wheel-dir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        # The name by which packages tell other packages from the user's own code.
        base = folder / "base" / "site-packages"
        link(closure(PACKAGE)[1:], base)
        torch = folder / "torch" / "site-packages" if options.keep_torch else None
        if torch is not None:
            link(closure("torch"), torch)
        checks: dict[str, Callable[[], None]] = {
            "lowest": lambda: check_lowest(folder, torch, wheel, extras),
            **{
                extra or "alone": lambda extra=extra: check_extra(folder, base, wheel, extra)
                for extra in extras
            },
        }
        chosen = {n: check for n, check in checks.items() if n in (options.names or checks)}
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            failures = sum(pool.map(lambda item: not _passes(*item), chosen.items()))
    print(f"{len(chosen) - failures} passed, {failures} failed")  # noqa: T201 - its report
    return 1 if failures else 0


def _passes(name: str, check: Callable[[], None]) -> bool:
    start = time.monotonic()
    try:
        check()
    except RuntimeError as error:
        print(f"FAILED {name}: {error}", flush=True)  # noqa: T201 - its report
        return False
    print(f"passed {name} in {time.monotonic() - start:.0f} s", flush=True)  # noqa: T201 - its report
    return True


if __name__ == "__main__":
    sys.exit(main())
