"""`auricle plot`: one utterance and its representation as a picture."""

from __future__ import annotations

import argparse

from auricle.cli.encoders import choose_model, layer_argument, load_encoder
from auricle.errors import AuricleError
from auricle.pictures import listen, picture_of
from auricle.plotting.figures import check_plotting, save_figure


def run(arguments: argparse.Namespace) -> int:
    """Draw the file as the arguments say.

    Raises:
        AuricleError: The file, the labels, the model or the layer is wrong, matplotlib is missing,
            or the picture cannot be written.
    """
    check_plotting(arguments.out)
    speech = listen(
        arguments.file,
        labels=arguments.labels or (),
        tier=arguments.tier,
        channel=arguments.channel,
        start=arguments.start,
        end=arguments.end,
    )
    layer = layer_argument(arguments.layer)
    if layer == "all":
        raise AuricleError(
            "one picture shows one layer: pass an index or a name as --layer, or draw all of them "
            "by auricle compare FILE --models MODEL --layers all"
        )
    choose_model(arguments)
    save_figure(picture_of(speech, load_encoder(arguments), layer).figure, arguments.out)
    print(f"wrote {arguments.out}")
    return 0
