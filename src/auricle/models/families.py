"""The table of families: one line each, read without importing any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from auricle.errors import PlugInError, UnknownModelError
from auricle.outputs import Paper
from auricle.plug_ins import FAMILY_GROUP, PlugIn, described, find_plug_in, plug_ins

if TYPE_CHECKING:
    from auricle.models.base import Config, Encoder


@dataclasses.dataclass(frozen=True)
class Family:
    """A family: its stem, its class, and what its paper says.

    `stem` names its file in every layer (`models/<stem>.py`, `convert/<stem>.py`, ...). A family
    from a plug-in names its modules instead, of which that of the encoder is required; `plug_in`
    is set by `find_family`.
    """

    stem: str
    title: str
    class_name: str
    input: Literal["wave", "mel"]
    loss: str
    repository: str | None
    paper: Paper | None
    encoder_module_name: str | None = None
    objective_module_name: str | None = None
    converter_module_name: str | None = None
    plug_in: PlugIn | None = None

    def encoder_module(self) -> Any:
        """The module with the family's encoder, config and published sizes; imports it."""
        return self._module("models", self.encoder_module_name)

    def encoder_type(self) -> type[Encoder]:
        """The encoder's class; imports its module."""
        encoder_type: type[Encoder] = self._attribute(self.encoder_module(), self.class_name)
        if self.plug_in is not None:
            self._check_encoder_type(self.plug_in, encoder_type)
        return encoder_type

    def presets(self) -> Mapping[str, Config]:
        """The published sizes by name; imports the encoder's module."""
        presets: Mapping[str, Config] = self._attribute(self.encoder_module(), "PRESETS")
        return presets

    def preset(self, size: str) -> Config:
        """The config of a published size; imports the encoder's module."""
        presets = self.presets()
        if self.plug_in is not None and size not in presets:
            raise self.plug_in.broken(f"it has no size {size}, only {', '.join(presets)}")
        return presets[size]

    def objective_type(self) -> Any:
        """The class of the family's pretraining loss; imports its module."""
        module = self._module("objectives", self.objective_module_name)
        return self._attribute(module, f"{self.class_name}Objective")

    def converter(self) -> Any:
        """The module that reads the family's original checkpoints; imports it."""
        return self._module("convert", self.converter_module_name)

    def _module(self, layer: str, own_name: str | None) -> Any:
        if self.plug_in is None:
            return import_module(f"auricle.{layer}.{self.stem}")
        if own_name is None:
            raise ModuleNotFoundError(f"the plug-in {self.plug_in} brings nothing for {layer}")
        try:
            return import_module(own_name)
        except Exception as error:  # somebody else's module may raise anything
            raise self.plug_in.broken(f"{own_name}: {described(error)}") from error

    def _attribute(self, module: Any, name: str) -> Any:
        if self.plug_in is not None and not hasattr(module, name):
            raise self.plug_in.broken(f"{module.__name__} has no {name}")
        return getattr(module, name)

    def _check_encoder_type(self, plug_in: PlugIn, encoder_type: object) -> None:
        from auricle.models.base import Encoder

        if not isinstance(encoder_type, type) or not issubclass(encoder_type, Encoder):
            raise plug_in.broken(f"{self.class_name} must be a subclass of auricle.Encoder")
        if getattr(encoder_type, "family", None) != self.stem:
            raise plug_in.broken(f"{self.class_name}.family must be {self.stem!r}")


S3PRL = "https://github.com/s3prl/s3prl"
CPC_AUDIO = "https://github.com/facebookresearch/CPC_audio"
FAIRSEQ = "https://github.com/facebookresearch/fairseq"
PASE_REPO = "https://github.com/santi-pdp/pase"
UNILM = "https://github.com/microsoft/unilm"
NPC_REPO = "https://github.com/Alexander-H-Liu/NPC"

FAMILIES: dict[str, Family] = {
    family.stem: family
    for family in (
        Family(
            "apc",
            "APC",
            "Apc",
            "mel",
            "RNN, unidirectional reconstruction",
            NPC_REPO,
            Paper(
                title="An Unsupervised Autoregressive Model for Speech Representation Learning",
                arxiv="1904.03240",
                date="2019-04-05",
            ),
        ),
        Family(
            "vq_apc",
            "VQ-APC",
            "VqApc",
            "mel",
            "RNN, unidirectional reconstruction through vector quantisation",
            NPC_REPO,
            Paper(
                title="Vector-Quantized Autoregressive Predictive Coding",
                arxiv="2005.08392",
                date="2020-05-17",
            ),
        ),
        Family(
            "npc",
            "NPC",
            "Npc",
            "mel",
            "CNN, reconstruction with masked convolution blocks",
            NPC_REPO,
            Paper(
                title="Non-Autoregressive Predictive Coding for Learning Speech Representations from Local Dependencies",
                arxiv="2011.00406",
                date="2020-11-01",
            ),
        ),
        Family(
            "mockingjay",
            "Mockingjay",
            "Mockingjay",
            "mel",
            "Transformer, masked reconstruction",
            S3PRL,
            Paper(
                title="Mockingjay: Unsupervised Speech Representation Learning with Deep Bidirectional Transformer Encoders",
                arxiv="1910.12638",
                date="2019-10-25",
            ),
        ),
        Family(
            "tera",
            "TERA",
            "Tera",
            "mel",
            "Transformer, reconstruction from alterations in time, frequency and magnitude",
            S3PRL,
            Paper(
                title="TERA: Self-Supervised Learning of Transformer Encoder Representation for Speech",
                arxiv="2007.06028",
                date="2020-07-12",
            ),
        ),
        Family(
            "audio_albert",
            "Audio ALBERT",
            "AudioAlbert",
            "mel",
            "Transformer with shared layers, masked reconstruction",
            S3PRL,
            Paper(
                title="Audio ALBERT: A Lite BERT for Self-supervised Learning of Audio Representation",
                arxiv="2005.08575",
                date="2020-05-18",
            ),
        ),
        Family(
            "cpc",
            "CPC",
            "Cpc",
            "wave",
            "CNN, InfoNCE contrastive",
            CPC_AUDIO,
            Paper(
                title="Representation Learning with Contrastive Predictive Coding",
                arxiv="1807.03748",
                date="2018-07-10",
            ),
        ),
        Family(
            "pase",
            "PASE",
            "Pase",
            "wave",
            "CNN, self-supervised workers (regression and classification)",
            PASE_REPO,
            Paper(
                title="Learning Problem-agnostic Speech Representations from Multiple Self-supervised Tasks",
                arxiv="1904.03416",
                date="2019-04-06",
            ),
        ),
        Family(
            "wav2vec",
            "wav2vec",
            "Wav2Vec",
            "wave",
            "CNN, InfoNCE contrastive",
            FAIRSEQ,
            Paper(
                title="wav2vec: Unsupervised Pre-training for Speech Recognition",
                arxiv="1904.05862",
                date="2019-04-11",
            ),
        ),
        Family(
            "vq_wav2vec",
            "vq-wav2vec",
            "VqWav2Vec",
            "wave",
            "CNN, InfoNCE contrastive on discrete codes",
            FAIRSEQ,
            Paper(
                title="vq-wav2vec: Self-Supervised Learning of Discrete Speech Representations",
                arxiv="1910.05453",
                date="2019-10-12",
            ),
        ),
        Family(
            "wav2vec2",
            "wav2vec 2.0",
            "Wav2Vec2",
            "wave",
            "CNN and Transformer, InfoNCE contrastive, vector quantisation, masking",
            FAIRSEQ,
            Paper(
                title="wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
                arxiv="2006.11477",
                date="2020-06-20",
            ),
        ),
        Family(
            "hubert",
            "HuBERT",
            "Hubert",
            "wave",
            "CNN and Transformer, masked prediction of hidden units",
            FAIRSEQ,
            Paper(
                title="HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
                arxiv="2106.07447",
                date="2021-06-14",
            ),
        ),
        Family(
            "wavlm",
            "WavLM",
            "WavLm",
            "wave",
            "CNN and Transformer, masked prediction and denoising",
            UNILM,
            Paper(
                title="WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing",
                arxiv="2110.13900",
                date="2021-10-26",
            ),
        ),
        Family(
            "data2vec",
            "data2vec audio",
            "Data2Vec",
            "wave",
            "CNN and Transformer, masked regression of a teacher",
            FAIRSEQ,
            Paper(
                title="data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language",
                arxiv="2202.03555",
                date="2022-02-07",
            ),
        ),
        Family("baseline", "Baseline", "Baseline", "wave", "none", None, None),
    )
}
"""The library's own families by stem; `find_family` knows those of plug-ins too."""


def find_family(stem: str) -> Family:
    """A family of the library or of a plug-in, by its stem.

    A plug-in is imported only where its own family is asked for.

    Raises:
        UnknownModelError: There is no such family; the message lists those there are.
        PlugInError: The plug-in that adds it is broken.
    """
    if stem in FAMILIES:
        return FAMILIES[stem]
    plug_in = find_plug_in(FAMILY_GROUP, stem)
    if plug_in is None:
        known = ", ".join((*FAMILIES, *plug_ins(FAMILY_GROUP)))
        raise UnknownModelError(f"no family is called {stem!r}; expected one of {known}")
    family = plug_in.load(Family)
    if family.stem != plug_in.name or not family.stem.isidentifier():
        raise plug_in.broken(
            f"its family's stem is {family.stem!r}, expected {plug_in.name!r}, the name of the "
            "entry point, which must be a Python identifier"
        )
    if family.encoder_module_name is None:
        raise plug_in.broken("its family names no encoder_module_name")
    return dataclasses.replace(family, plug_in=plug_in)


def is_family(stem: str) -> bool:
    """Whether the library or a plug-in, perhaps a broken one, has a family of that stem."""
    return stem in FAMILIES or stem in plug_ins(FAMILY_GROUP)


def plug_in_families() -> tuple[list[Family], list[PlugInError]]:
    """The families of plug-ins, all of which are imported, and what is wrong with the others."""
    families, problems = [], []
    for stem, claims in plug_ins(FAMILY_GROUP).items():
        try:
            if stem in FAMILIES:
                raise claims[0].broken(f"the library has a family {stem} of its own")
            families.append(find_family(stem))
        except PlugInError as problem:
            problems.append(problem)
    return families, problems
