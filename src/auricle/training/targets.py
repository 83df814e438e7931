"""Units of a corpus, which losses such as HuBERT's predict: made once, read crop by crop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auricle.errors import RecipeError
from auricle.files.atomic import write_whole
from auricle.geometry import FrameGeometry
from auricle.models.base import Encoder
from auricle.objectives.base import UnitTargets
from auricle.training.corpus import Corpus
from auricle.units.codebook import Units, load_units

if TYPE_CHECKING:
    from accelerate import Accelerator

FILE = "targets.safetensors"
NO_UNIT = -1
"""Target of padding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusUnits:
    """Units of every utterance of a corpus, in one or more codebooks.

    Attributes:
        codes: Of each codebook the units (N, R) of all frames of the corpus, one utterance after
            the other.
        starts: Of each codebook the row (U + 1,) where each utterance begins.
        geometries: Of each codebook the geometry of its frames.
        frames: Geometry of the frames that predict the units.
    """

    codes: tuple[Tensor, ...]
    starts: tuple[Tensor, ...]
    geometries: tuple[FrameGeometry, ...]
    frames: FrameGeometry

    def of(self, utterance: int, start: int, num_samples: int) -> Tensor:
        """Units (T, K) of the frames of a crop, int64, all stages of all codebooks side by side.

        A frame takes the unit whose window's centre is nearest to its own, within the utterance.
        """
        num_frames = self.frames.num_frames(num_samples)
        centres = 2 * start + _centre(self.frames) + 2 * torch.arange(num_frames) * _hop(self.frames)
        columns = []
        for codes, starts, geometry in zip(self.codes, self.starts, self.geometries, strict=True):
            hop = 2 * _hop(geometry)
            # Rounds halves up, by integers alone.
            nearest = (2 * (centres - _centre(geometry)) + hop).div(2 * hop, rounding_mode="floor")
            first, end = int(starts[utterance]), int(starts[utterance + 1])
            columns.append(codes[first + nearest.clamp(0, end - first - 1)])
        return torch.cat(columns, dim=1).long()


def _centre(geometry: FrameGeometry) -> int:
    """Twice the sample in the middle of the first frame's window, a whole number."""
    return 2 * geometry.start_samples + geometry.window_samples


def _hop(geometry: FrameGeometry) -> int:
    return geometry.hop_samples


def prepare_units(
    targets: Sequence[UnitTargets],
    corpus: Corpus,
    out: Path,
    encoder: Encoder,
    accelerator: Accelerator,
) -> CorpusUnits:
    from safetensors.torch import load_file, save_file

    books = [load_units(Path(target.units)) for target in targets]
    encoders = [book.load_encoder(device="cpu") for book in books]
    geometries = [e.layer_info(b.layer).geometry for e, b in zip(encoders, books)]
    path = out / FILE
    if not path.exists():
        tensors = {}
        for place, (book, teacher) in enumerate(zip(books, encoders)):
            parts = []
            with torch.inference_mode():
                for some in range(0, len(corpus.utterances), 8):
                    for x in teacher([u.read() for u in corpus.utterances[some:some+8]], book.layer):
                        parts.append(book.assign(x).reshape(len(x), -1).to(torch.int16))
                    print(place, some, flush=True)
            tensors[f"codes.{place}"] = torch.cat(parts)
            tensors[f"starts.{place}"] = torch.tensor([0] + [len(p) for p in parts]).cumsum(0)
        save_file({k: v.clone() for k, v in tensors.items()}, path)
    tensors = load_file(path)
    codes = tuple(tensors[f"codes.{k}"] for k in range(len(books)))
    starts = tuple(tensors[f"starts.{k}"] for k in range(len(books)))
    return CorpusUnits(codes=codes, starts=starts, geometries=tuple(geometries), frames=encoder.layer_infos[-1].geometry)
