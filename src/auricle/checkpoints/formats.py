"""Formats of original checkpoints: recognised by their content, and converted.

A family's data file says which formats it has. A further format is one `Format` in `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from auricle.catalogue.family import FAMILIES, Family, find_family, plug_in_families
from auricle.checkpoints import fairseq, huggingface, npc_repo, pase, s3prl, waveform_transformer
from auricle.checkpoints.keymap import (
    Converted,
    KeyMap,
    has_part,
    kind_of,
    state_dict,
    weights_in,
)
from auricle.checkpoints.options import (
    Configuration,
    Options,
    check_demands,
    read_config,
    read_configuration,
)
from auricle.checkpoints.pickle.unpickle import as_mapping
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError, PlugInError
from auricle.models.definition import Config
from auricle.models.spectral_transformer import SpectralBertConfig
from auricle.models.wav2vec import ConvEncoderConfig
from auricle.models.waveform_transformer import WaveformEncoderConfig
from auricle.plug_ins import PlugIn, described

logger = logging.getLogger(__name__)

Payload = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Format:
    """A layout of original checkpoints.

    Attributes:
        name: Its name in messages.
        matches: Whether a checkpoint's content has this layout.
        families: The families that such a checkpoint may be of, the likeliest first; more than
            one where files of several families look the same.
        convert: Config and weights of such a checkpoint, for one of these families.
        needs_config: Whether the configuration is a JSON file of its own. The payload to convert
            is then `{"weights": ..., "config": ...}`.
        takes_config: Whether a configuration may be given that the checkpoint does not hold. The
            payload is the same, with an empty `config` where none is given.
    """

    name: str
    matches: Callable[[Payload], bool]
    families: Callable[[Payload], tuple[str, ...]]
    convert: Callable[[Payload, Family], Converted]
    needs_config: bool = False
    takes_config: bool = False

    @property
    def holds_config(self) -> bool:
        """True if the checkpoint itself says which encoder its weights are of."""
        return not (self.needs_config or self.takes_config)


def recognise(content: object, formats: Iterable[Format] | None = None) -> tuple[Format, Payload]:
    """The format of a checkpoint's content, and the payload that it converts.

    Args:
        content: The content of the file.
        formats: The formats to try, in this order, as far as needed; None for the library's own.

    Raises:
        CheckpointError: It has none of the known layouts; the message lists what it holds.
    """
    if not isinstance(content, Mapping):
        hint = "; save its state_dict() instead" if isinstance(content, InertRecord) else ""
        raise CheckpointError(
            f"the checkpoint holds a {kind_of(content)}, expected a mapping{hint}"
        )
    tried = []
    for layout in FORMATS if formats is None else formats:
        if layout.matches(content):
            return layout, content
        tried.append(layout.name)
    keys = ", ".join(map(str, list(content)[:12]))
    other = published_elsewhere(content)
    hint = "weights from Hugging Face need their config.json beside them"
    if other is not None:
        hint = f"it looks like {other}, which this version does not read"
    elif weights_in(content):
        hint += (
            ", and other bare tensors family= and config= (on the command line --model FAMILY "
            "--checkpoint FILE --config JSON)"
        )
    raise CheckpointError(
        f"the checkpoint's layout is not one of {', '.join(tried)}: it holds "
        f"{keys or 'nothing'}; {hint}"
    )


def published_elsewhere(content: Payload) -> str | None:
    """The name of the layout of published files that is not read, where the content has one."""
    return next((name for name, wanted in OTHERS.items() if wanted <= set(content)), None)


def formats_for(family: str | None) -> Iterator[Format]:
    """The formats that a checkpoint may have, in the order to try them.

    Plug-ins are imported only when their turn comes: the one that `family` is from before the
    library's formats, all of them after those where no family is named. A broken plug-in is then
    left out with a warning.

    Raises:
        PlugInError: The plug-in that `family` is from is broken.
    """
    if family is not None and family not in FAMILIES:
        yield from _plug_in_formats(find_family(family))
    yield from FORMATS
    if family is not None:
        return
    families, problems = plug_in_families()
    for added in families:
        try:
            yield from _plug_in_formats(added)
        except PlugInError as problem:
            problems.append(problem)
    for broken in problems:
        logger.warning("%s", broken)


def convert_bare(
    weights: Mapping[str, Tensor], family: str, config: Configuration | Config
) -> Converted:
    """Config and weights of bare tensors.

    Args:
        weights: Under the names that the authors, Hugging Face or this library give them.
        family: Stem of the family.
        config: The family's config; or, as a mapping or a JSON file, an encoding of such a config
            or the options of a checkpoint that its authors wrote, unchanged.

    Raises:
        CheckpointError: The configuration does not hold.
    """
    kind = find_family(family)
    if not isinstance(config, Config):
        options = read_configuration(config)
        own = _own_config(options, kind.config_type())
        if own is None:
            name, payload = _payload(weights, kind, options, config)
            layouts = {layout.name: layout for layout in formats_for(family)}
            return layouts[name].convert(payload, kind)
        config = own
    return Converted(config, weights, known_keys(kind, config))


def _plug_in_formats(family: Family) -> list[Format]:
    """The formats that a plug-in's converter brings; none where it has no converter."""
    plug_in = family.plug_in
    if plug_in is None or family.converter is None:
        return []
    formats = getattr(family.converter_module(), "FORMATS", ())
    if not isinstance(formats, (tuple, list)) or not all(isinstance(f, Format) for f in formats):
        raise plug_in.broken(f"{family.converter}.FORMATS must be a tuple of Format")
    return [
        dataclasses.replace(layout, matches=_guarded(layout.matches, plug_in)) for layout in formats
    ]


def _guarded(matches: Callable[[Payload], bool], plug_in: PlugIn) -> Callable[[Payload], bool]:
    """`matches` for files that its author never thought of: an exception in it means no."""

    def guarded(content: Payload) -> bool:
        try:
            return matches(content)
        except Exception as error:  # the code of another package may raise anything
            logger.warning(
                "%s cannot tell whether a file is its own: %s", plug_in, described(error)
            )
            return False

    return guarded


def known_keys(family: Family, config: Any) -> KeyMap:
    """A table of every name that weights of a family have in any of its formats.

    Names may also be those of `encoder.state_dict()`.
    """
    specs = family.formats
    tables = [KeyMap(spec.keys, spec.unused) for spec in specs.values()]
    if isinstance(config, WaveformEncoderConfig):
        fairseq_spec = specs.get(fairseq.SPEC) or next(iter(specs.values()))
        tables.append(waveform_transformer.fairseq_keys(config, fairseq_spec))
        tables.append(waveform_transformer.huggingface_keys(specs[huggingface.SPEC]))
    elif isinstance(config, ConvEncoderConfig):
        tables.append(fairseq.conv_encoder_keys(family, config))
    elif isinstance(config, SpectralBertConfig):
        tables.append(s3prl.keys(config.transformer))
    renames = [rename for keys in tables for rename in keys.renames]
    own = [(ours, ours) for _, ours in renames]
    return KeyMap((*renames, *own), [one for keys in tables for one in keys.pretraining])


def _is_cpc(content: Payload) -> bool:
    weights = content.get("weights")
    return (
        content.get("config") is not None
        and isinstance(weights, Mapping)
        and has_part(weights, "gEncoder")
    )


def convert_cpc(payload: Payload, family: Family) -> Converted:
    """Config and weights of a CPC checkpoint; absent options have the reference's defaults.

    Raises:
        CheckpointError: It is of a variant with another encoder or another context network.
    """
    spec = family.formats["cpc-audio"]
    options = Options(as_mapping(payload["config"]), "config")
    check_demands(spec.demands, options)
    config = read_config(family.config_type(), spec.fields, options)
    return Converted(
        config, state_dict(payload["weights"], "weights"), KeyMap(spec.keys, spec.unused)
    )


def convert_fairseq(payload: Payload, family: Family) -> Converted:
    """Config and weights of a checkpoint of fairseq, of either kind of encoder.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    if issubclass(family.config_type(), WaveformEncoderConfig):
        return waveform_transformer.convert_fairseq(payload, family)
    return fairseq.convert_conv_encoder(payload, family)


def _is_npc_weights(content: Payload) -> bool:
    return npc_repo.method(weights_in(content)) is not None


def _own_config(options: Mapping[str, Any], config_type: type[Config]) -> Config | None:
    """The config that options encode; None where they are of another kind."""
    if not set(options) <= set(config_type.__struct_fields__) or not options:
        return None
    try:
        return msgspec.convert(dict(options), config_type)
    except msgspec.ValidationError:
        return None


def _payload(
    weights: Mapping[str, Tensor],
    family: Family,
    options: Mapping[str, Any],
    config: Configuration,
) -> tuple[str, Payload]:
    """A format of a family, and weights and options in its layout."""
    formats = family.formats
    if "model_type" in options and "huggingface" in formats:
        return "huggingface", {
            huggingface.CONFIG: options,
            huggingface.PREPROCESSOR: _preprocessor(options, config),
            huggingface.WEIGHTS: weights,
        }
    if "npc-repo" in formats:
        return "npc-weights", {"config": options, "weights": weights}
    if "s3prl" in formats:
        for name in ("Upstream_Config", "Config"):
            if isinstance(options.get(name), Mapping):
                return "s3prl", {name: options[name], "Transformer": weights}
        return "s3prl", {"Config": options, "Transformer": weights}
    if "fairseq" in formats:
        if isinstance(options.get("model_cfg"), Mapping):
            return "fairseq-cfg", {**options, "model_weight": weights}
        for name in ("cfg", "args"):
            if options.get(name) is not None:
                return "fairseq-cfg", {name: options[name], "model": weights}
        name = "cfg" if isinstance(options.get("model"), Mapping) else "args"
        return "fairseq-cfg", {name: options, "model": weights}
    # The library's format of the family, or the first of a plug-in's own.
    name = next(iter(formats), None) or next(formats_for(family.stem)).name
    return name, {"config": options, "weights": weights}


def _preprocessor(options: Mapping[str, Any], config: Configuration) -> dict[str, Any]:
    """The options of the preprocessor: beside the configuration's file, or among its options."""
    if isinstance(config, str | Path):
        file = Path(config).with_name(huggingface.PREPROCESSOR_FILE)
        if file.is_file():
            return dict(read_configuration(file))
    if "do_normalize" not in options:
        logger.warning(
            "the configuration does not say do_normalize, as %s does: waveforms will be normalised",
            huggingface.PREPROCESSOR_FILE,
        )
        return {}
    return {"do_normalize": options["do_normalize"]}


OTHERS = {
    "Whisper as OpenAI publishes it": {"dims", "model_state_dict"},
    "a checkpoint of s3prl before December 2020": {"Transformer", "Settings"},
}
"""Layouts of published files that are not read, and keys that all of their files have."""

FORMATS = (
    Format(
        "huggingface",
        huggingface.matches,
        huggingface.families,
        waveform_transformer.convert_huggingface,
    ),
    Format("fairseq-cfg", fairseq.matches_cfg, fairseq.families, convert_fairseq),
    Format("fairseq-args", fairseq.matches_args, fairseq.families, convert_fairseq),
    Format("s3prl-converted", fairseq.matches_converted, fairseq.families, convert_fairseq),
    Format(
        "wavlm-official",
        fairseq.matches_wavlm,
        fairseq.wavlm_families,
        waveform_transformer.convert_wavlm,
    ),
    Format(
        "s3prl-distiller",
        waveform_transformer.matches_distiller,
        lambda _: ("hubert",),
        waveform_transformer.convert_distiller,
    ),
    Format("cpc-audio", _is_cpc, lambda _: ("cpc",), convert_cpc),
    Format("pase", pase.matches, lambda _: ("pase",), pase.convert, needs_config=True),
    Format("npc-repo", npc_repo.matches, npc_repo.families, npc_repo.convert),
    Format("s3prl", s3prl.matches, s3prl.families, s3prl.convert),
    Format("s3prl-legacy", s3prl.matches_legacy, s3prl.families, s3prl.convert),
    Format("npc-weights", _is_npc_weights, npc_repo.families, npc_repo.convert, takes_config=True),
)
