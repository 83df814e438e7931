"""Measure loading of 95 M parameters: from the cache, by transformers, as bytes of a file.

    python benchmarks/load_speed.py [--repetitions 9] [--out FILE]
        [--transformers-python PYTHON] [--s3prl-python PYTHON]

The size is wav2vec 2.0 base, with random weights, saved as a transformers folder in the cache of
a temporary folder and loaded once, so that its conversion is there. Every measurement is a process
of its own, after its imports; ways take turns, and the median over repetitions counts. The file is
in the system's cache, as it is on any but the first load after a start. `load` is the call, `use`
the call and one sum over every weight, which makes a mapped file's pages come in.

    read          a plain read of the file's bytes
    auricle       the conversion in the cache
    transformers  Wav2Vec2Model.from_pretrained, where transformers is installed; another
                  interpreter that has it may be named
    s3prl         its wav2vec 2.0, Base as well, from a checkpoint in its own format, where an
                  interpreter that has it is named (it does not import on a current install)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

SIZE = "wav2vec2_base_960"
LABEL = "load_speed"

TIMING = """
import json, sys, time
{imports}
start = time.perf_counter()
{load}
loaded = time.perf_counter()
{use}
used = time.perf_counter()
print(json.dumps({{"load": loaded - start, "use": used - start}}))
"""
SUM_OF_WEIGHTS = "total = sum(float(weight.sum()) for weight in model.state_dict().values())"

READ = TIMING.format(
    imports="from pathlib import Path",
    load="content = Path(sys.argv[1]).read_bytes()",
    use="",
)
AURICLE = TIMING.format(
    imports=(
        "import auricle.hub.load, auricle.models.waveform_transformer\n"
        "from auricle.hub.cache import Wanted\n"
        "from auricle.hub.conversions import load_once_converted"
    ),
    load=f"model = load_once_converted(Wanted(label={LABEL!r}), None).build()",
    use=SUM_OF_WEIGHTS,
)
TRANSFORMERS = TIMING.format(
    imports=(
        "import torch, transformers\n"
        "from transformers import Wav2Vec2Model\n"
        "transformers.logging.disable_progress_bar()"
    ),
    load="model = Wav2Vec2Model.from_pretrained(sys.argv[1])",
    use=SUM_OF_WEIGHTS,
)
S3PRL = TIMING.format(
    imports="from s3prl.upstream.wav2vec2.expert import UpstreamExpert",
    load="model = UpstreamExpert(sys.argv[1])",
    use=SUM_OF_WEIGHTS,
)
S3PRL_CHECKPOINT = """
import dataclasses, sys, torch
from s3prl.upstream.wav2vec2 import wav2vec2_model as s3prl
config = s3prl.Wav2Vec2Config()
torch.save(
    {
        "task_cfg": dataclasses.asdict(s3prl.AudioPretrainingConfig()),
        "model_cfg": dataclasses.asdict(config),
        "model_weight": s3prl.Wav2Vec2Model(config).state_dict(),
        "dictionaries_symbols": [],
    },
    sys.argv[1],
)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--transformers-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--s3prl-python", metavar="PYTHON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AURICLE_CACHE"] = folder
        original, converted, num_parameters = prepare(Path(folder))
        ways = {
            "read": (sys.executable, READ, converted),
            "auricle": (sys.executable, AURICLE, converted),
        }
        if has_transformers(arguments.transformers_python):
            ways["transformers"] = (arguments.transformers_python, TRANSFORMERS, original)
        if arguments.s3prl_python is not None:
            checkpoint = Path(folder) / "s3prl.pt"
            write = (arguments.s3prl_python, "-c", S3PRL_CHECKPOINT, str(checkpoint))
            subprocess.run(write, check=True)
            ways["s3prl"] = (arguments.s3prl_python, S3PRL, checkpoint)
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(arguments.repetitions):
            for way, (python, program, path) in ways.items():
                command = (python, "-c", program, str(path))
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                runs[way].append(json.loads(output.splitlines()[-1]))
        figures = {
            "parameters": num_parameters,
            "bytes": converted.stat().st_size,
            "repetitions": arguments.repetitions,
            "seconds": {
                way: {kind: median(run[kind] for run in of_way) for kind in ("load", "use")}
                for way, of_way in runs.items()
            },
        }
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


def prepare(folder: Path) -> tuple[Path, Path, int]:
    """The weights as a transformers folder, and their conversion; the count of parameters."""
    import auricle
    from auricle.checkpoints.export import export_to_transformers
    from auricle.hub.cache import Wanted
    from auricle.hub.conversions import Fetched, load_once_converted
    from auricle.info import Provenance

    original = folder / "original"
    export_to_transformers(auricle.build(SIZE), original)
    wanted = Wanted(label=LABEL)
    fetched = Fetched(path=original, provenance=Provenance())
    encoder = load_once_converted(wanted, lambda: fetched).build()
    return original, wanted.path, encoder.info.num_parameters


def has_transformers(python: str) -> bool:
    """Return true if the interpreter has transformers."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('transformers') is None)"
    return subprocess.run((python, "-c", code), check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
