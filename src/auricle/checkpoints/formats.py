"""Formats of original checkpoints: recognised by their content, and converted.

A family's data file says which formats it has. A further format is one `Format` in `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from torch import Tensor

from auricle.catalogue.family import FAMILIES, Family, find_family, plug_in_families
from auricle.checkpoints import (
    fairseq,
    huggingface,
    s3prl,
    self_distilled,
    shapes,
    toolkits,
    waveform_transformer,
)
from auricle.checkpoints.keymap import Converted, KeyMap, split
from auricle.checkpoints.options import Configuration, read_configuration
from auricle.checkpoints.pickle.values import InertRecord
from auricle.checkpoints.repositories import (
    WHISPER,
    convert_cpc,
    convert_npc,
    convert_pase,
    convert_whisper,
    matches_cpc,
    matches_npc,
    matches_pase,
    matches_whisper,
    npc_families,
    npc_method,
)
from auricle.checkpoints.state_dicts import WITHOUT_ADAPTERS, kind_of, weights_in
from auricle.errors import CheckpointError, PlugInError
from auricle.models.definition import Config
from auricle.models.self_distilled import Data2Vec2Config, SpinConfig, UnitTransformerConfig
from auricle.models.spectral_conformer import BestRqConfig, W2vBertConfig
from auricle.models.spectral_transformer import SpectralBertConfig
from auricle.models.wav2vec import ConvEncoderConfig
from auricle.models.waveform_transformer import WaveformEncoderConfig
from auricle.optional import PlugIn, described

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
        needs_config: Whether the configuration is a file of its own. The payload to convert is
            then `{"weights": ..., "config": ...}`.
        takes_config: Whether a configuration may be given that the checkpoint does not hold. The
            payload is the same, with an empty `config` where none is given.
        config_file: Name of the configuration that such a format takes from beside the checkpoint.
    """

    name: str
    matches: Callable[[Payload], bool]
    families: Callable[[Payload], tuple[str, ...]]
    convert: Callable[[Payload, Family], Converted]
    needs_config: bool = False
    takes_config: bool = False
    config_file: str | None = None

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
    weights: Mapping[str, Tensor],
    family: str,
    config: Configuration | Config,
    *,
    without_adapters: bool = False,
) -> Converted:
    """Config and weights of bare tensors.

    Args:
        weights: Under the names that the authors, Hugging Face or this library give them.
        family: Stem of the family.
        config: The family's config; or, as a mapping or a JSON file, an encoding of such a config
            or the options of a checkpoint that its authors wrote, unchanged.
        without_adapters: Whether adapters that the options describe are left out.

    Raises:
        CheckpointError: The configuration does not hold.
    """
    kind = find_family(family)
    published = config if isinstance(config, Config) else None
    for name, names in shapes.NAMES.items():
        if name in kind.formats and names.match(weights):
            options = {} if isinstance(config, Config) else read_configuration(config)
            bare = {"weights": weights, "config": options, shapes.PUBLISHED: published}
            return names.convert(bare, kind)
    if not isinstance(config, Config):
        options = read_configuration(config)
        own = _own_config(options, kind.config_type())
        if own is None:
            name, payload = _payload(weights, kind, options, config)
            layouts = {layout.name: layout for layout in formats_for(family)}
            if without_adapters:
                payload = {**payload, WITHOUT_ADAPTERS: True}
            return layouts[name].convert(payload, kind)
        config = own
    if isinstance(config, Data2Vec2Config):
        weights = self_distilled.with_five_axes(weights)
    elif isinstance(config, BestRqConfig):
        weights = toolkits.in_our_layout(weights, config.conformer.num_heads)
    return Converted(config, weights, known_keys(kind, config, weights))


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


def known_keys(family: Family, config: Any, weights: Mapping[str, Tensor]) -> KeyMap:
    """A table of every name that weights of a family have in any of its formats.

    Names may also be those of `encoder.state_dict()`.
    """
    specs = family.formats
    if isinstance(config, Data2Vec2Config):
        num_prenet = self_distilled.num_prenet_blocks(weights)
        tables = [self_distilled.data2vec2_keys(specs[fairseq.SPEC], config, num_prenet)]
    else:
        tables = [KeyMap(spec.keys, spec.unused) for spec in specs.values()]
    if isinstance(config, UnitTransformerConfig):
        tables.append(self_distilled.spidr_keys())
    elif isinstance(config, SpinConfig):
        tables = [
            self_distilled.spin_keys(specs[self_distilled.SPIN_SPEC], config, place)
            for place in ("encoder.model.", "encoder.")
        ]
    elif isinstance(config, WaveformEncoderConfig) and huggingface.SPEC in specs:
        tables.append(waveform_transformer.huggingface_keys(specs[huggingface.SPEC]))
    if isinstance(config, WaveformEncoderConfig):
        fairseq_spec = specs.get(fairseq.SPEC) or next(iter(specs.values()))
        tables.append(waveform_transformer.fairseq_keys(config, fairseq_spec))
    elif isinstance(config, ConvEncoderConfig):
        tables.append(fairseq.conv_encoder_keys(family, config))
    elif isinstance(config, SpectralBertConfig):
        tables.append(s3prl.keys(config.transformer))
    renames = [rename for keys in tables for rename in keys.renames]
    own = [(one, one) for _, ours in renames for one in split(ours)]
    return KeyMap((*renames, *own), [one for keys in tables for one in keys.pretraining])


def convert_fairseq(payload: Payload, family: Family) -> Converted:
    """Config and weights of a checkpoint of fairseq, of either kind of encoder.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    if issubclass(family.config_type(), Data2Vec2Config):
        return self_distilled.convert_data2vec2(payload, family)
    if issubclass(family.config_type(), WaveformEncoderConfig):
        return waveform_transformer.convert_fairseq(payload, family)
    return fairseq.convert_conv_encoder(payload, family)


def convert_huggingface(payload: Payload, family: Family) -> Converted:
    """Config and weights of a model of transformers.

    Raises:
        CheckpointError: An option is not known or asks for what is not implemented.
    """
    if issubclass(family.config_type(), (WaveformEncoderConfig, W2vBertConfig)):
        return waveform_transformer.convert_huggingface(payload, family)
    return huggingface.convert(payload, family)


def _is_npc_weights(content: Payload) -> bool:
    return npc_method(weights_in(content)) is not None


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
            huggingface.PREPROCESSOR: huggingface.preprocessor_options(options, config),
            huggingface.WEIGHTS: weights,
        }
    if self_distilled.SPIDR_SPEC in formats and self_distilled.matches_spidr(weights):
        return self_distilled.SPIDR_SPEC, {"config": options, "weights": weights}
    if self_distilled.SPIN_SPEC in formats:
        return self_distilled.SPIN_SPEC, {"hyper_parameters": options, "state_dict": weights}
    if WHISPER in formats:
        return WHISPER, {
            "dims": options.get("dims", options),
            "model_state_dict": weights,
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


OTHERS = {
    "a checkpoint of s3prl before December 2020": {"Transformer", "Settings"},
}
"""Layouts of published files that are not read, and keys that all of their files have."""

FORMATS = (
    Format("huggingface", huggingface.matches, huggingface.families, convert_huggingface),
    Format(toolkits.NEMO, toolkits.matches_nemo, lambda _: ("parakeet",), toolkits.convert_nemo),
    Format(
        toolkits.SPEECHBRAIN,
        toolkits.matches_speechbrain,
        lambda _: ("bestrq",),
        toolkits.convert_speechbrain,
        needs_config=True,
        config_file=toolkits.HYPERPARAMETERS,
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
    Format(WHISPER, matches_whisper, lambda _: ("whisper",), convert_whisper),
    Format("cpc-audio", matches_cpc, lambda _: ("cpc",), convert_cpc),
    Format("pase", matches_pase, lambda _: ("pase",), convert_pase, needs_config=True),
    Format(
        "spidr",
        self_distilled.matches_spidr,
        self_distilled.spidr_families,
        self_distilled.convert_spidr,
        takes_config=True,
        config_file="config.json",
    ),
    Format("spin", self_distilled.matches_spin, lambda _: ("spin",), self_distilled.convert_spin),
    Format("rspin", self_distilled.matches_rspin, lambda _: ("spin",), self_distilled.convert_spin),
    Format("npc-repo", matches_npc, npc_families, convert_npc),
    Format("s3prl", s3prl.matches, s3prl.families, s3prl.convert),
    Format("s3prl-legacy", s3prl.matches_legacy, s3prl.families, s3prl.convert),
    Format("npc-weights", _is_npc_weights, npc_families, convert_npc, takes_config=True),
    *(
        Format(name, names.match, names.families, names.convert, takes_config=True)
        for name, names in shapes.NAMES.items()
    ),
)
