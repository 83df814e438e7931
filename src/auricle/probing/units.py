"""Worth of discrete units: their agreement with phones, and their bitrate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from auricle.corpus.utterance import Utterance
from auricle.errors import AuricleError
from auricle.files.atomic import write_whole
from auricle.info import SAMPLE_RATE
from auricle.models.base import Encoder
from auricle.probing.features import encoded, label_frames
from auricle.probing.report import percent
from auricle.units.codebook import Units

FILE = "units.json"


class UnitAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of the units of frames with their phones.

    As HuBERT defines it (Hsu et al., arXiv:2106.07447), with p(y, z) the share of frames of phone y
    and unit z:

    Attributes:
        phone_purity: Sum over z of the largest p(y, z): accuracy of the most frequent phone of each
            unit.
        cluster_purity: Sum over y of the largest p(y, z): it falls as there are more units.
        pnmi: Mutual information of phone and unit, divided by the entropy of the phones; 0 where
            all frames are of one phone.
        num_frames: Frames with a phone.
        num_phones: Phones among them.
        num_units: Units among them.
    """

    phone_purity: float
    cluster_purity: float
    pnmi: float
    num_frames: int
    num_phones: int
    num_units: int


class Bitrate(msgspec.Struct, frozen=True, kw_only=True):
    """Bits a second that sequences of units need (ZeroSpeech 2019, arXiv:1904.11469).

    It is the number of symbols a second times the entropy of their distribution in bits, as if
    each was coded by itself.

    Attributes:
        bits_per_second: Of all units, one a frame.
        deduplicated_bits_per_second: Of runs of equal units as one symbol each; their lengths are
            not counted.
        entropy_bits: Of a unit.
        deduplicated_entropy_bits: Of a run.
        num_symbols: Units.
        num_runs: Runs of equal units.
        seconds: Length of the audio.
    """

    bits_per_second: float
    deduplicated_bits_per_second: float
    entropy_bits: float
    deduplicated_entropy_bits: float
    num_symbols: int
    num_runs: int
    seconds: float


def unit_agreement(units: ArrayLike, phones: ArrayLike) -> UnitAgreement:
    """Compare the units (N,) of frames with their phones (N,).

    Units are integers, or (N, K) with K of them a frame, which count as one symbol together. Phones
    are of any type that has an order.

    Raises:
        AuricleError: There are no frames, or lengths differ.
    """
    codes = _symbols(np.asarray(units))
    labels = np.asarray(phones)
    if labels.ndim != 1 or len(labels) != len(codes) or not len(codes):
        raise AuricleError(
            f"expected one phone for each of the units, 1 or more, but got {len(codes)} units and "
            f"phones of shape {labels.shape}"
        )
    phone_names, rows = np.unique(labels, return_inverse=True)
    unit_names, columns = np.unique(codes, return_inverse=True)
    places = rows * len(unit_names) + columns
    pairs, inverse = np.unique(places, return_inverse=True)
    joint = np.bincount(inverse) / len(codes)
    of_phones = np.bincount(rows) / len(codes)
    of_units = np.bincount(columns) / len(codes)
    pair_phones, pair_units = np.divmod(pairs, len(unit_names))
    product = of_phones[pair_phones] * of_units[pair_units]
    information = float(np.sum(joint * np.log(joint / product)))
    phone_entropy = -float(np.sum(of_phones * np.log(of_phones)))
    by_unit, by_phone = np.zeros(len(unit_names)), np.zeros(len(phone_names))
    np.maximum.at(by_unit, pair_units, joint)
    np.maximum.at(by_phone, pair_phones, joint)
    return UnitAgreement(
        phone_purity=float(by_unit.sum()),
        cluster_purity=float(by_phone.sum()),
        pnmi=max(0.0, information) / phone_entropy if phone_entropy > 0 else 0.0,
        num_frames=len(codes),
        num_phones=len(phone_names),
        num_units=len(unit_names),
    )


def bitrate(sequences: Sequence[ArrayLike], seconds: float) -> Bitrate:
    """Bits a second of the units of utterances, which last `seconds` together.

    Each sequence is (T,), or (T, K) with K units a frame that count as one symbol together.

    Raises:
        AuricleError: There are no units, or no seconds.
    """
    arrays = [np.asarray(one) for one in sequences if len(np.asarray(one))]
    if not arrays or not seconds > 0:
        raise AuricleError(
            f"a bitrate needs 1 unit or more and a positive length, but got {len(arrays)} "
            f"sequences with units and {seconds:g} s"
        )
    symbols = _symbols(np.concatenate(arrays))
    lengths = [len(one) for one in arrays]
    begins = np.cumsum([0, *lengths[:-1]])
    is_first = np.append(True, symbols[1:] != symbols[:-1])
    is_first[begins] = True
    runs = symbols[is_first]
    entropy, run_entropy = _entropy_bits(symbols), _entropy_bits(runs)
    return Bitrate(
        bits_per_second=len(symbols) / seconds * entropy,
        deduplicated_bits_per_second=len(runs) / seconds * run_entropy,
        entropy_bits=entropy,
        deduplicated_entropy_bits=run_entropy,
        num_symbols=len(symbols),
        num_runs=len(runs),
        seconds=seconds,
    )


def _symbols(units: NDArray[np.generic]) -> NDArray[np.int64]:
    """One number for each frame: (N,), of (N,) or (N, K)."""
    if units.ndim not in (1, 2) or not np.issubdtype(units.dtype, np.integer):
        raise AuricleError(
            f"expected units as integers of shape (N,) or (N, K), got {units.dtype} of shape "
            f"{units.shape}"
        )
    if units.ndim == 1:
        return units.astype(np.int64)
    _, places = np.unique(units, axis=0, return_inverse=True)
    symbols: NDArray[np.int64] = places.reshape(-1).astype(np.int64)
    return symbols


def _entropy_bits(symbols: NDArray[np.int64]) -> float:
    shares = np.unique(symbols, return_counts=True)[1] / len(symbols)
    return abs(float(np.sum(shares * np.log2(shares))))


class UnitsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Worth of a file of units on a corpus.

    Attributes:
        units: Name of the file.
        model: Encoder that the units are of.
        layer: Its layer.
        num_clusters: Entries of each codebook.
        num_stages: Units of a frame, which count as one symbol together.
        num_utterances: Utterances of the corpus.
        agreement: With the phones of the frames that have one.
        bitrate: Of all frames.
    """

    units: str
    model: str
    layer: str
    num_clusters: int
    num_stages: int
    num_utterances: int
    agreement: UnitAgreement
    bitrate: Bitrate


class UnitsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a file of results."""

    version: str
    results: tuple[UnitsResult, ...]


def measure_units(
    encoder: Encoder,
    units: Units,
    utterances: Sequence[Utterance],
    *,
    name: str = "units",
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> UnitsResult:
    """Measure the worth of units on the phones of a corpus.

    A frame has the phone that is spoken at its centre, as in the task `phones`; silence counts as a
    phone where the labels have it, and frames without a label count for the bitrate alone.

    Args:
        encoder: In eval mode, of the units.
        units: From `auricle.load_units`.
        utterances: With phones as segments, from `read_phones`.
        name: Name of the units in the result.
        on_seconds: Called with the seconds of audio encoded since its last call.

    Raises:
        AudioError: A file cannot be decoded or is too short for the encoder.
        AuricleError: The units are of another encoder, or no frame has a phone.
    """
    units.check_encoder(encoder)
    layer = encoder.layer_info(units.layer)
    codes: list[NDArray[np.int64]] = []
    phones: list[NDArray[np.str_]] = []
    num_samples = 0
    for one in encoded(
        encoder, utterances, [layer], final_norm=units.final_norm, on_seconds=on_seconds
    ):
        segments = utterances[one.index].segments
        found = label_frames(encoder.frame_times(one.num_samples, layer.name), segments)
        labels = np.array([*(segment.label for segment in segments), ""])
        codes.append(units.assign(one.layers[layer.name]).numpy().astype(np.int64))
        phones.append(labels[found])  # -1, no phone, is the last one
        num_samples += one.num_samples
    every_phone = np.concatenate(phones)
    has_phone = every_phone != ""
    return UnitsResult(
        units=name,
        model=encoder.info.name,
        layer=units.layer,
        num_clusters=units.num_clusters,
        num_stages=units.num_stages,
        num_utterances=len(utterances),
        agreement=unit_agreement(np.concatenate(codes)[has_phone], every_phone[has_phone]),
        bitrate=bitrate(codes, num_samples / SAMPLE_RATE),
    )


def units_lines(result: UnitsResult) -> Iterator[str]:
    """Text lines of a result."""
    stages = f"{result.num_stages} x " if result.num_stages > 1 else ""
    one, rate = result.agreement, result.bitrate
    yield (
        f"{result.units}: {stages}{result.num_clusters} clusters of {result.model}, "
        f"{result.layer}; {one.num_frames} frames of {one.num_phones} phones, "
        f"{one.num_units} units used"
    )
    yield f"  phone purity    {percent(one.phone_purity):>7} %"
    yield f"  cluster purity  {percent(one.cluster_purity):>7} %"
    yield f"  PNMI            {one.pnmi:>7.3f}"
    rates = (rate.bits_per_second, rate.deduplicated_bits_per_second)
    yield f"  bitrate         {rates[0]:>7.1f} bit/s, {rate.entropy_bits:.2f} bit a unit"
    yield (
        f"  deduplicated    {rates[1]:>7.1f} bit/s, "
        f"{rate.deduplicated_entropy_bits:.2f} bit a run of "
        f"{rate.num_symbols / rate.num_runs:.2f} frames"
    )


def units_table(results: Sequence[UnitsResult]) -> list[str]:
    """Lines of a Markdown table: one row per file of units."""
    header = ["units", "phone purity", "cluster purity", "PNMI", "bit/s", "deduplicated bit/s"]
    rows = [
        [
            f"`{one.units}`",
            percent(one.agreement.phone_purity),
            percent(one.agreement.cluster_purity),
            f"{one.agreement.pnmi:.3f}",
            f"{one.bitrate.bits_per_second:.1f}",
            f"{one.bitrate.deduplicated_bits_per_second:.1f}",
        ]
        for one in results
    ]
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def read_units_results(path: Path) -> tuple[UnitsResult, ...]:
    """Read results of earlier runs; none if there is no file.

    Raises:
        AuricleError: It is not a file of such results.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=UnitsReport).results
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        raise AuricleError(f"{path} holds no results of the task units: {error}") from error


def add_units(folder: Path, new: UnitsResult) -> None:
    """Add a result to `units.json` and `units.md`, replacing that of units of the same name.

    Raises:
        AuricleError: The folder holds another `units.json`, or a file cannot be written.
    """
    old = read_units_results(folder / FILE)
    results = [new if one.units == new.units else one for one in old]
    if new not in results:
        results.append(new)
    own: str = import_module("auricle").__version__
    report = UnitsReport(version=own, results=tuple(results))
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    write_whole(folder / FILE, lambda temporary: temporary.write_bytes(text))
    table = "\n".join(units_table(results)) + "\n"
    write_whole(folder / "units.md", lambda temporary: temporary.write_text(table, "utf-8"))
