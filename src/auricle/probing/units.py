"""Worth of discrete units: their agreement with phones, and their bitrate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auricle.errors import AuricleError


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitAgreement:
    """Agreement of the units of frames with their phones, as in HuBERT's section IV-D.

    With p(y, z) the share of frames of phone y and unit z (Hsu et al., arXiv:2106.07447, equations
    3 to 6):

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bitrate:
    """Bits a second that sequences of units need (ZeroSpeech 2019, arXiv:1904.11469, section 3).

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
    return np.unique(units, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _entropy_bits(symbols: NDArray[np.int64]) -> float:
    shares = np.unique(symbols, return_counts=True)[1] / len(symbols)
    return abs(float(np.sum(shares * np.log2(shares))))
