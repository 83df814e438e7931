"""Entry points of `s3prl.hub`: `getattr(hub, name)()` gives an upstream.

Names are those of s3prl that the library has, and all of its own.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auricle.audio.inputs import Waveform
from auricle.catalogue.family import FAMILIES, RECORDS
from auricle.catalogue.search import BASELINE, find, plug_in_names, s3prl_names
from auricle.errors import AudioError, AuricleError, UnknownModelError
from auricle.hub.load import load
from auricle.hub.location import is_location
from auricle.models.base import Encoder

logger = logging.getLogger(__name__)

BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("s3prl_fbank", {}),
    "fbank": ("s3prl_fbank", {}),
    "fbank_no_cmvn": ("s3prl_fbank", {"cmvn": False}),
    "mel": ("s3prl_mel", {}),
    "linear": ("s3prl_linear", {}),
}
"""Spectral features of s3prl -> the library's name of the same, and options."""

OTHER_BASELINES = ("mfcc", "spectrogram")
"""Names of the library that stand for other features in s3prl: Kaldi's, with CMVN."""

_OTHER_FEATURES = (
    "{0} of s3prl (Kaldi's, with CMVN) is not here; auricle.load({0!r}) has features of that name "
    "which are others"
)

REPOSITORIES = ("hf_hubert_custom", "hf_wav2vec2_custom")
"""Entry points that take a repository of Hugging Face."""

CHECKPOINT_SUFFIXES = ("_local", "_url", "_custom")

SEVERAL_FAMILIES = ("wav2vec2",)
"""Families whose entry points take checkpoints of other families too, as their content says."""

WITHOUT_EFFECT = ("feature_selection", "legacy")
"""Options of s3prl about what it returns and which of its implementations it takes."""

ALIASES_OF_CONFIG = ("options_config", "model_config")
"""Options of s3prl that name a file of the configuration."""

OPTIONS = ("config", "device", "precision", "without_adapters")
"""Options that `auricle.load` takes."""


class HubUpstream(nn.Module):
    """An encoder called as upstreams of s3prl are: a list of waveforms in, a dict out.

    Attributes:
        encoder: The encoder, in eval mode at first.
        names: Names of its layers that are the `hidden_states`, in order.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        # vq-wav2vec's quantised vectors are none of the hidden states there.
        self.names = [info.name for info in encoder.layer_infos if info.name != "quantized"]
        self.eval()

    def get_downsample_rates(self, key: str = "hidden_states") -> int:
        """Samples from one frame to the next."""
        del key
        return self.encoder.layer_info(self.names[-1]).geometry.hop_samples

    def states(self, wavs: Sequence[Waveform]) -> list[list[Tensor]]:
        """Hidden states of each waveform alone: per state a list of (frames, dim).

        Raises:
            AudioError: There are no waveforms; as in a call of the encoder.
        """
        if len(wavs) == 0:
            raise AudioError("there are no waveforms to encode: pass one or more")
        outputs = self.encoder.layers(wavs, self.names)
        return [[output[name] for output in outputs] for name in self.names]

    def forward(self, wavs: Sequence[Waveform]) -> dict[str, Any]:
        """Encode unpadded waveforms.

        Args:
            wavs: List of waveforms (S,) at 16 kHz.

        Returns:
            `hidden_states`: tuple of (B, T, D), zeros after the end of each utterance, and
            `hidden_states_len`: tuple of their frames (B,), exact; `last_hidden_state`;
            `hidden_state_0`, `hidden_state_1`, ...; `_hidden_states_info`: names of the layers.

        Raises:
            AudioError: As in a call of the encoder.
        """
        states = self.states(wavs)
        padded = tuple(nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in states)
        return {
            "hidden_states": padded,
            "hidden_states_len": tuple(
                torch.tensor([len(row) for row in rows], device=self.encoder.device)
                for rows in states
            ),
            "last_hidden_state": padded[-1],
            **{f"hidden_state_{index}": state for index, state in enumerate(padded)},
            "_hidden_states_info": tuple(self.names),
        }


def options(only_registered_ckpt: bool = False) -> list[str]:
    """Names of entry points; with `only_registered_ckpt` without those that take a checkpoint."""
    names = {*BASELINES, *(name for record in RECORDS for name in record.names), *plug_in_names()}
    if not only_registered_ckpt:
        names.update(_checkpoint_families(), REPOSITORIES)
    return sorted(names - {*OTHER_BASELINES})


def load_options(entry: str, given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Options of `auricle.load` that the keyword arguments of an entry point of s3prl stand for.

    Args:
        entry: Name of the entry point, for the error.
        given: Keyword arguments. `options_config` and `model_config` are `config`; `legacy` and
            `feature_selection` change nothing, for all layers can be asked for.
        known: Options that the entry point takes.

    Raises:
        AuricleError: An option is unknown, or given under two names.
    """
    chosen = {key: value for key, value in given.items() if key not in WITHOUT_EFFECT}
    for alias in ALIASES_OF_CONFIG:
        if alias in chosen:
            if "config" in chosen:
                raise AuricleError(
                    f"{entry} got config= and {alias}=, which are one: leave one out"
                )
            chosen["config"] = chosen.pop(alias)
    if unknown := sorted(set(chosen) - set(known)):
        expected = dict.fromkeys(("ckpt", "refresh", *known))
        raise AuricleError(
            f"{entry} takes no {', '.join(unknown)}: expected {', '.join(expected)}, or s3prl's "
            f"{', '.join((*ALIASES_OF_CONFIG, *WITHOUT_EFFECT))}"
        )
    return chosen


def upstream(
    name: str, ckpt: str | Path | None = None, *, refresh: bool = False, **conf: Any
) -> HubUpstream:
    """Load the upstream of an entry point, on the CPU unless `device` says another.

    Args:
        name: Name of the entry point.
        ckpt: Path or URL of a checkpoint; for `hf_..._custom` a repository or its copy.
        refresh: Download again what is in the cache.
        conf: `config` (also as `options_config` and `model_config`), `device`, `precision` and
            `without_adapters`, as of `auricle.load`; `legacy` and `feature_selection` change
            nothing.

    Raises:
        UnknownModelError: The name stands for other features than in s3prl.
        AuricleError: An option is unknown, or `ckpt` is missing; else as of `auricle.load`.
    """
    if name in OTHER_BASELINES:
        raise UnknownModelError(_OTHER_FEATURES.format(name))
    chosen = load_options(f"s3prl.hub.{name}", conf, OPTIONS)
    chosen.setdefault("device", "cpu")
    if name in BASELINES:
        name, changed = BASELINES[name]
        chosen["config"] = {**changed, **(chosen.get("config") or {})}
        ckpt = None
    family = _checkpoint_families().get(name)
    if ckpt is None and (family is not None or name in REPOSITORIES):
        raise AuricleError(f"s3prl.hub.{name} takes a checkpoint: pass its path or URL as ckpt=")
    if name in REPOSITORIES:
        is_place = Path(str(ckpt)).exists() or is_location(str(ckpt))
        return HubUpstream(
            load(str(ckpt) if is_place else f"hf://{ckpt}", refresh=refresh, **chosen)
        )
    if ckpt is not None and family in SEVERAL_FAMILIES:
        return HubUpstream(load(ckpt, refresh=refresh, **chosen))
    if name.startswith("distil"):
        logger.warning(
            "%s: hidden states 1 and 2 are those of s3prl; its state 0, and the predictions of its "
            "heads after them, are not here",
            name,
        )
    return HubUpstream(load(family or name, checkpoint=ckpt, refresh=refresh, **chosen))


@functools.cache
def _checkpoint_families() -> dict[str, str]:
    """Entry point that takes a checkpoint -> the stem of its family; those of s3prl and more."""
    families = {
        f"{stem}{suffix}": stem
        for stem in FAMILIES
        if stem != BASELINE
        for suffix in CHECKPOINT_SUFFIXES
    }
    for stem, entries in s3prl_names().checkpoints.items():
        families.update(dict.fromkeys(entries, stem))
    return families


def __getattr__(name: str) -> Callable[..., HubUpstream]:
    if name.startswith("_"):
        raise AttributeError(name)
    if name in OTHER_BASELINES:
        raise AttributeError(_OTHER_FEATURES.format(name))
    if name not in BASELINES and name not in _checkpoint_families() and name not in REPOSITORIES:
        try:
            find(name)
        except UnknownModelError as error:
            raise AttributeError(str(error)) from error
    return functools.partial(upstream, name)


def __dir__() -> list[str]:
    return [*globals(), *options()]
