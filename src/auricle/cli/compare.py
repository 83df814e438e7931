"""`auricle compare`: the same speech through several encoders as a picture."""

from __future__ import annotations

import argparse
import functools

from tqdm import tqdm

from auricle.cli.encoders import layer_argument
from auricle.hub.loading import load
from auricle.pictures import comparison_of, layers_of_each, listen
from auricle.plotting.figures import check_plotting, save_figure


def run(arguments: argparse.Namespace) -> int:
    """Draw the file as the arguments say.

    Raises:
        AuricleError: The file, the labels, a model or a layer is wrong, matplotlib is missing, or
            the picture cannot be written.
    """
    check_plotting(arguments.out)
    models: list[str] = arguments.models
    texts: list[str] = arguments.layers or []
    single = layer_argument(texts[0]) if len(texts) == 1 else None
    layers = layers_of_each(
        [*map(layer_argument, texts)] if len(texts) > 1 else single, len(models)
    )
    speech = listen(
        arguments.file,
        labels=arguments.labels or (),
        tier=arguments.tier,
        channel=arguments.channel,
        start=arguments.start,
        end=arguments.end,
    )
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
