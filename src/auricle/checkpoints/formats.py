"""Which format an original checkpoint is in, and whose it is: told from its content alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from auricle.checkpoints import fairseq, huggingface, npc_repo
from auricle.checkpoints.converted import kind_of, weights_in
from auricle.checkpoints.keymap import has_part
from auricle.checkpoints.options import Options
from auricle.checkpoints.pickle.values import InertRecord
from auricle.errors import CheckpointError

Payload = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Format:
    """A layout of original checkpoints.

    Attributes:
        name: What it is called in messages.
        matches: Whether a checkpoint's content has this layout.
        families: The families that such a checkpoint may be of, the likeliest first. It is more
            than one where files of several families look the same.
        needs_config: Whether the configuration is a JSON file of its own. The payload that
            converters read is then `{"weights": ..., "config": ...}`.
        takes_config: Whether a configuration may be given that the checkpoint does not hold. The
            payload is the same, with an empty `config` where none is given.
    """

    name: str
    matches: Callable[[Payload], bool]
    families: Callable[[Payload], tuple[str, ...]]
    needs_config: bool = False
    takes_config: bool = False

    @property
    def holds_config(self) -> bool:
        """Whether the checkpoint itself says what its weights are of."""
        return not (self.needs_config or self.takes_config)


def recognise(content: object, formats: Iterable[Format] | None = None) -> tuple[Format, Payload]:
    """The format of a legacy checkpoint's content.

    Args:
        content: What the file holds.
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


def _is_npc_repo(content: Payload) -> bool:
    return _has_mappings(content, "config", "model") and "model" in content["config"]


def _npc_repo_families(content: Payload) -> tuple[str, ...]:
    model = Options(content["config"], "config").section("model")
    method = model.choice("method", tuple(NPC_METHODS), None)
    if method == "apc" and "vq" in model.section("paras"):
        return ("vq_apc",)
    return (NPC_METHODS[method],)


def _is_s3prl(content: Payload) -> bool:
    return _has_mappings(content, "Transformer", "Upstream_Config")


def _is_s3prl_legacy(content: Payload) -> bool:
    return _has_mappings(content, "Transformer", "Config")


def _s3prl_families(content: Payload) -> tuple[str, ...]:
    is_legacy = "Upstream_Config" not in content
    config = Options(content["Config" if is_legacy else "Upstream_Config"], "the model's config")
    if config.section("transformer").get("share_layer", bool, False):
        return ("audio_albert",)
    # Mockingjay and TERA are one network; what sets them apart is how they were trained.
    task = config.section("task")
    alters_magnitude = task.get("noise_proportion", float, 0.0) > 0
    alters_frequency = task.get("mask_frequency", float, 0.0) > 0
    if alters_magnitude or alters_frequency or not is_legacy:
        return ("tera", "mockingjay")
    return ("mockingjay", "tera")


def _is_cpc(content: Payload) -> bool:
    weights = content.get("weights")
    return (
        content.get("config") is not None
        and isinstance(weights, Mapping)
        and has_part(weights, "gEncoder")
    )


def _is_pase(content: Payload) -> bool:
    return has_part(weights_in(content), *PASE_KEY.split("."))


def _is_npc_weights(content: Payload) -> bool:
    return npc_repo.method(weights_in(content)) is not None


def _npc_weights_families(payload: Payload) -> tuple[str, ...]:
    return (NPC_METHODS[npc_repo.method(payload["weights"]) or "apc"],)


def _has_mappings(content: Payload, *keys: str) -> bool:
    return all(isinstance(content.get(key), Mapping) for key in keys)


OTHERS = {
    "Whisper as OpenAI publishes it": {"dims", "model_state_dict"},
    "DistilHuBERT as s3prl publishes it": {"Distiller", "Config"},
    "a checkpoint of s3prl before December 2020": {"Transformer", "Settings"},
    "WavLM or UniSpeech-SAT as Microsoft publishes them": {"cfg", "model"},
}
"""Layouts of published files that are not read, and keys that all of their files have."""

NPC_METHODS = {"apc": "apc", "vqapc": "vq_apc", "npc": "npc"}
"""`model.method` of the three's repository -> family."""

PASE_KEY = "blocks.0.conv.low_hz_"
"""A weight that PASE alone has."""

FORMATS = (
    Format("huggingface", huggingface.matches, huggingface.families),
    Format("fairseq-cfg", fairseq.matches_cfg, fairseq.families),
    Format("fairseq-args", fairseq.matches_args, fairseq.families),
    Format("s3prl-converted", fairseq.matches_converted, fairseq.families),
    Format("cpc-audio", _is_cpc, lambda _: ("cpc",)),
    Format("pase", _is_pase, lambda _: ("pase",), needs_config=True),
    Format("npc-repo", _is_npc_repo, _npc_repo_families),
    Format("s3prl", _is_s3prl, _s3prl_families),
    Format("s3prl-legacy", _is_s3prl_legacy, _s3prl_families),
    Format("npc-weights", _is_npc_weights, _npc_weights_families, takes_config=True),
)
