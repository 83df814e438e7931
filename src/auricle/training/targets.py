"""Units of a corpus, which losses such as HuBERT's predict: made once, read crop by crop."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from auricle.errors import AuricleError, RecipeError
from auricle.files.atomic import file_sha256, write_whole
from auricle.files.safetensors import write_safetensors
from auricle.hub.load import load
from auricle.info import FrameGeometry
from auricle.models.base import Encoder
from auricle.objectives.base import UnitTargets
from auricle.training.building import Corpus
from auricle.training.checkpoints import read_tensors
from auricle.units.codebook import Units, known_sha256, load_units
from auricle.units.fit import fit_frames, state_path
from auricle.units.fit_data import FitOptions, FrameSource

if TYPE_CHECKING:
    from accelerate import Accelerator

FOLDER = "targets"

PART_UTTERANCES = 256
"""Utterances whose units are written together: a run that is killed loses no more."""

TOGETHER = 8
"""Utterances that are encoded together."""

NO_UNIT = -1
"""Target of padding."""


class Codes(NamedTuple):
    """Units of a corpus in one codebook.

    Attributes:
        values: (N, R), units of all frames, one utterance after the other, in R stages.
        starts: (U + 1,), row where each utterance begins.
        geometry: Geometry of the frames.
    """

    values: Tensor
    starts: Tensor
    geometry: FrameGeometry


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusUnits:
    """Units of every utterance of a corpus.

    Attributes:
        codes: Of each codebook.
        frames: Geometry of the frames that predict the units.
    """

    codes: tuple[Codes, ...]
    frames: FrameGeometry

    def of(self, utterance: int, start: int, num_samples: int) -> Tensor:
        """Units (T, K), int64, of the frames of a crop: all stages of all codebooks side by side.

        A frame takes the unit whose span has the nearest centre, the later of two equally near,
        within the utterance.
        """
        num_frames = self.frames.num_frames(num_samples)
        steps = torch.arange(num_frames) * self.frames.hop_samples
        twice = 2 * (start + steps) + _twice_the_centre(self.frames)
        columns = []
        for codes in self.codes:
            hop = 2 * codes.geometry.hop_samples
            offset = twice - _twice_the_centre(codes.geometry)
            nearest = (2 * offset + hop).div(2 * hop, rounding_mode="floor")
            first, end = codes.starts[utterance : utterance + 2].tolist()
            columns.append(codes.values[first + nearest.clamp(0, end - first - 1)])
        return torch.cat(columns, dim=1).long()


def _twice_the_centre(geometry: FrameGeometry) -> int:
    """Twice the centre of the first frame's span, in samples, which is a whole number."""
    return 2 * geometry.start_samples + geometry.window_samples


def prepare_units(
    targets: Sequence[UnitTargets],
    corpus: Corpus,
    out: Path,
    frames: FrameGeometry,
    accelerator: Accelerator,
) -> CorpusUnits:
    """Fit the codebooks that have no file, encode the corpus, and keep both below `out`.

    What is there already is read. Each process encodes a part of the corpus.

    Args:
        targets: The codebooks.
        corpus: The corpus of the training.
        out: Folder of the training.
        frames: Geometry of the frames that predict the units.
        accelerator: The processes, and the device to encode on.

    Raises:
        RecipeError: A file of units does not fit the recipe, or those below `out` are of other
            audio or another codebook.
        AuricleError: Units cannot be fitted, or read, or their encoder not loaded.
        AudioError: Audio cannot be decoded.
        OutputError: A file cannot be written.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    device = str(accelerator.device)
    codes = []
    for place, target in enumerate(targets):
        path = folder / f"units_{place}.safetensors" if target.units is None else Path(target.units)
        if target.units is None and accelerator.is_main_process and not path.exists():
            _fit(target, corpus, path, device)
        accelerator.wait_for_everyone()
        units = load_units(path)
        _check_fits(target, units, path)
        encoder = units.load_encoder(device=device)
        labeller = _Labeller(units, encoder, corpus, folder / f"codes_{place}", file_sha256(path))
        labeller.encode(accelerator.process_index, accelerator.num_processes)
        accelerator.wait_for_everyone()
        codes.append(labeller.read())
    return CorpusUnits(codes=tuple(codes), frames=frames)


def _fit(target: UnitTargets, corpus: Corpus, path: Path, device: str) -> None:
    """Fit a codebook on the corpus by the options of a recipe, and write it."""
    encoder = load(target.model, device=device)
    layer = encoder.layer_info(target.layer).name

    def read(index: int) -> Tensor:
        with torch.inference_mode():
            waveform = corpus.utterances[index].read()
            (x,) = encoder([waveform], layer, pad_short=True)
        return x.cpu()

    weights = known_sha256(encoder)
    source = FrameSource(
        num_utterances=len(corpus.utterances),
        read=read,
        facts={
            "model": target.model,
            "layer": layer,
            "family": encoder.family,
            "weights_digest": weights,
            "checkpoint_digest": encoder.provenance.sha256,
            "data": f"the training audio, {corpus.hours:.2f} h",
        },
        digest=f"{corpus.digest} {weights} {layer}",
    )
    options = FitOptions(
        num_clusters=target.num_units,
        num_stages=target.num_stages,
        sample=target.sample,
        seed=target.seed,
    )
    what = f"fitting units of {target.model}"
    with tqdm(total=100, desc=what, unit="%", disable=None, leave=False) as bar:

        def advance(part: float, num_steps: int, inertia: float) -> None:
            del num_steps
            bar.set_postfix_str(f"distance {inertia:.4g}", refresh=False)
            bar.update(round(100 * part) - bar.n)

        fit_frames(source, options, state_path(path), advance).save(path)
    state_path(path).unlink(missing_ok=True)


def _check_fits(target: UnitTargets, units: Units, path: Path) -> None:
    """Raise RecipeError unless units are of the size that a recipe states."""
    found = (units.num_clusters, units.num_stages)
    if found != (target.num_units, target.num_stages):
        raise RecipeError(
            f"{path} has {found[0]} units in {found[1]} stage(s), but the recipe states "
            f"num_units = {target.num_units} and num_stages = {target.num_stages}; set them "
            "alike, or choose another file of units"
        )


@dataclasses.dataclass(frozen=True)
class _Labeller:
    """Units of a corpus in one codebook, written in parts.

    Attributes:
        units: The codebook.
        encoder: Its encoder.
        corpus: The corpus.
        folder: Folder of the parts.
        units_sha256: Digest of the codebook's file.
    """

    units: Units
    encoder: Encoder
    corpus: Corpus
    folder: Path
    units_sha256: str

    def encode(self, rank: int, num_processes: int) -> None:
        """Encode and write every part that is missing of those that fall to a process."""
        self.folder.mkdir(exist_ok=True)
        mine = range(rank, self._num_parts, num_processes)
        missing = [part for part in mine if not self._path(part).exists()]
        name = self.units.model or self.encoder.family
        for part in tqdm(missing, desc=f"units of {name}", disable=None, leave=False):
            self._encode_part(part)

    def _encode_part(self, part: int) -> None:
        rows = self._rows(part)
        codes = [one for first in rows[::TOGETHER] for one in self._together(first, rows.stop)]
        counts = torch.tensor([len(one) for one in codes])
        tensors = {"values": torch.cat(codes), "counts": counts}
        metadata = {"key": self._key}
        path = self._path(part)
        write_whole(path, lambda temporary: write_safetensors(temporary, tensors, metadata))

    def read(self) -> Codes:
        """Read all parts."""
        values, counts = [], []
        for part in range(self._num_parts):
            path = self._path(part)
            self._check(path)
            tensors = read_tensors(path)
            values.append(tensors["values"])
            counts.append(tensors["counts"])
        zero = torch.zeros(1, dtype=torch.int64)
        return Codes(
            values=torch.cat(values),
            starts=torch.cat([zero, *counts]).cumsum(0),
            geometry=self.encoder.layer_info(self.units.layer).geometry,
        )

    def _together(self, first: int, stop: int) -> list[Tensor]:
        """Units (T, R) of some utterances, in the narrowest integers that hold them."""
        some = self.corpus.utterances[first : min(first + TOGETHER, stop)]
        waveforms = [utterance.read() for utterance in some]
        with torch.inference_mode():
            codes = self.units.encode(self.encoder, waveforms, pad_short=True)
        dtype = torch.int16 if self.units.num_clusters <= 2**15 else torch.int32
        return [one.reshape(len(one), -1).to("cpu", dtype) for one in codes]

    @property
    def _num_parts(self) -> int:
        return -(-len(self.corpus.utterances) // PART_UTTERANCES)

    def _rows(self, part: int) -> range:
        first = part * PART_UTTERANCES
        return range(first, min(first + PART_UTTERANCES, len(self.corpus.utterances)))

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:05d}.safetensors"

    @property
    def _key(self) -> str:
        """Digest of what the codes follow from."""
        return hashlib.sha256(f"{self.corpus.digest} {self.units_sha256}".encode()).hexdigest()

    def _check(self, path: Path) -> None:
        """Raise RecipeError unless a part is of this corpus and codebook."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                found = (file.metadata() or {}).get("key")
        except (OSError, SafetensorError) as error:
            raise AuricleError(
                f"cannot read {path}: {error}; remove it, and it is made again"
            ) from error
        if found != self._key:
            raise RecipeError(
                f"{path} has units of other audio or of another codebook; choose another --out, or "
                "go on with what the training was begun with"
            )
