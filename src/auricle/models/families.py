"""The table of families: one line each, read without importing any model."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from auricle.outputs import Paper

if TYPE_CHECKING:
    from auricle.models.base import Encoder


@dataclasses.dataclass(frozen=True)
class Family:
    """A family: its stem, its class, and what its paper says.

    `stem` names its file in every layer (`models/<stem>.py`, `convert/<stem>.py`, ...).
    """

    stem: str
    title: str
    class_name: str
    input: Literal["wave", "mel"]
    loss: str
    repository: str | None
    paper: Paper | None

    def encoder_module(self) -> Any:
        """The module with the family's encoder, config and published sizes; imports it."""
        return import_module(f"auricle.models.{self.stem}")

    def encoder_type(self) -> type[Encoder]:
        """The encoder's class; imports its module."""
        encoder_type: type[Encoder] = getattr(self.encoder_module(), self.class_name)
        return encoder_type

    def objective_type(self) -> Any:
        """The class of the family's pretraining loss; imports its module."""
        module = import_module(f"auricle.objectives.{self.stem}")
        return getattr(module, f"{self.class_name}Objective")

    def converter(self) -> Any:
        """The module that reads the family's original checkpoints; imports it."""
        return import_module(f"auricle.convert.{self.stem}")


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
