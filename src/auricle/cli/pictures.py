"""Commands that draw: `auricle plot`, `auricle compare`, and the page of `auricle explore`."""

from __future__ import annotations

import argparse
import functools
import threading

from auricle.cli.options import (
    LAYER_HELP,
    MODEL_HELP,
    add_device,
    add_model,
    add_speech,
    choose_model,
    layer_argument,
    load_encoder,
    read_speech,
    repeatable_words,
)
from auricle.errors import AuricleError


class Plot:
    """The command `auricle plot`."""

    SUMMARY = "plot one utterance and its representation"
    TEXT = """\
Plot one utterance on one time axis: waveform, log mel spectrogram, labels where given,
representation, its principal components as colour, codes of a quantiser, and self-similarity.

Needs more packages: pip install '.[plot]'.
"""
    EXAMPLES = """\
examples:
  auricle plot speech.wav --model tera --layer -1 --out tera.png
  auricle plot speech.wav --labels phones.tsv --start 1.5 --end 3 --out part.pdf
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the utterance, the model and its layer."""
        add_speech(parser)
        add_model(parser)
        parser.add_argument(
            "--layer", metavar="LAYER", help=f"{LAYER_HELP} (default: the model's default layer)"
        )
        add_device(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Write the picture.

        Raises:
            AuricleError: The file, the labels, the model or the layer is wrong, matplotlib is
                missing, or the picture cannot be written.
        """
        from auricle.plotting.api import picture_of
        from auricle.plotting.figures import check_plotting, save_figure

        check_plotting(arguments.out)
        speech = read_speech(arguments)
        layer = layer_argument(arguments.layer)
        if layer == "all":
            raise AuricleError(
                "one picture shows one layer: pass an index or a name as --layer, or draw all "
                "layers with auricle compare FILE --models MODEL --layers all"
            )
        choose_model(arguments)
        save_figure(picture_of(speech, load_encoder(arguments), layer).figure, arguments.out)
        print(f"wrote {arguments.out}")
        return 0


class Compare:
    """The command `auricle compare`."""

    SUMMARY = "plot one utterance through several models"
    TEXT = """\
Plot the representations of one utterance by several models on one time axis, and below them the
similarity of all their layers (linear CKA, 1 where one is a rotation and a scaling of the other).

Needs more packages: pip install '.[plot]'.
"""
    EXAMPLES = """\
examples:
  auricle compare speech.wav --models tera_mini,wav2vec2_mini,fbank --out compared.png
  auricle compare speech.wav --models wav2vec2,hubert --layers 6,9 --out compared.pdf
  auricle compare speech.wav --models tera_mini --layers all --out layers.png
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the utterance, the models and their layers."""
        add_speech(parser)
        parser.add_argument(
            "--models",
            metavar="MODEL,...",
            type=repeatable_words,
            required=True,
            help=f"each {MODEL_HELP}; one may be repeated, with another layer",
        )
        parser.add_argument(
            "--layers",
            metavar="LAYER,...",
            type=repeatable_words,
            help=f"one for each model in order or one for all: {LAYER_HELP}; or all (default: each "
            "model's default layer); if the first is negative, --layers=-1,-2",
        )
        add_device(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Write the picture.

        Raises:
            AuricleError: The file, the labels, a model or a layer is wrong, matplotlib is missing,
                or the picture cannot be written.
        """
        from tqdm import tqdm

        from auricle.hub.load import load
        from auricle.plotting.api import comparison_of, layers_of_each
        from auricle.plotting.figures import check_plotting, save_figure

        check_plotting(arguments.out)
        models: list[str] = arguments.models
        texts: list[str] = arguments.layers or []
        single = layer_argument(texts[0]) if len(texts) == 1 else None
        layers = layers_of_each(
            [*map(layer_argument, texts)] if len(texts) > 1 else single, len(models)
        )
        speech = read_speech(arguments)
        loaded = functools.cache(
            functools.partial(load, device=arguments.device, precision=arguments.precision)
        )
        encoders = (
            loaded(model)
            for model in tqdm(models, desc="encoding", unit="encoder", disable=None, leave=False)
        )
        save_figure(comparison_of(speech, encoders, layers).figure, arguments.out)
        print(f"wrote {arguments.out}")
        return 0


class Explore:
    """The command `auricle explore`."""

    SUMMARY = "serve a local page that plots representations"
    TEXT = """\
Serve a page on this machine alone (127.0.0.1): drop a file or record, pick encoders and layers, see
the pictures of auricle plot and auricle compare with a playhead, download picture and features.
Only weights are downloaded, if the user allows it.

Needs more packages: pip install '.[explore]'.
"""
    EXAMPLES = """\
examples:
  auricle explore
  auricle explore --open
  auricle explore --port 8000
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the port, and the choice to open a browser."""
        parser.add_argument(
            "--port",
            metavar="PORT",
            type=_port,
            help="port to listen on (default: the first free one from 7860)",
        )
        parser.add_argument("--open", action="store_true", help="open the page in the browser")

    def run(self, arguments: argparse.Namespace) -> int:
        """Serve the page until the user stops it.

        Raises:
            MissingExtraError: Gradio or matplotlib is not installed.
            OutputError: The port is not free.
        """
        import webbrowser

        from auricle.explore.page import serve

        with serve(arguments.port) as address:
            print(
                f"auricle explore: open {address} in a browser; Ctrl-C stops the server", flush=True
            )
            if arguments.open:
                webbrowser.open(address)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                print()
        return 0


def _port(text: str) -> int:
    """Parse a port that a user may listen on."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)
