from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

import auricle
from auricle.errors import AuricleError
from auricle.probing.tasks import read_phones
from auricle.probing.units import (
    add_units,
    bitrate,
    measure_units,
    read_units_results,
    unit_agreement,
    units_lines,
)
from auricle.units.codebook import Units


@pytest.mark.parametrize("num_units", [1, 4, 60])
def test_agreement_is_that_of_scikit_learn_and_of_counts(num_units: int) -> None:
    generator = np.random.default_rng(num_units)
    phones = generator.choice(["AA", "S", "SIL", "T"], 500, p=[0.5, 0.3, 0.1, 0.1])
    units = (np.unique(phones, return_inverse=True)[1] + generator.integers(0, 3, 500)) % num_units
    found = unit_agreement(units, phones)
    entropy = -sum(n / 500 * math.log(n / 500) for n in Counter(phones).values())
    expected = mutual_info_score(phones, units) / entropy
    assert found.pnmi == pytest.approx(expected, abs=1e-12)
    of_unit = sum(max(Counter(phones[units == z]).values()) for z in set(units.tolist()))
    of_phone = sum(max(Counter(units[phones == y]).values()) for y in set(phones.tolist()))
    assert found.phone_purity == pytest.approx(of_unit / 500)
    assert found.cluster_purity == pytest.approx(of_phone / 500)
    assert (found.num_frames, found.num_phones) == (500, 4)
    assert found.num_units == len(set(units.tolist()))


def test_units_that_are_phones_are_perfect_and_one_phone_has_nothing_to_say() -> None:
    perfect = unit_agreement([3, 3, 9], ["a", "a", "b"])
    assert (perfect.phone_purity, perfect.cluster_purity) == (1.0, 1.0)
    assert perfect.pnmi == pytest.approx(1.0)
    assert unit_agreement([1, 2], ["a", "a"]).pnmi == 0.0


def test_units_of_several_stages_are_one_symbol_together() -> None:
    codes = np.array([[0, 1], [1, 0], [0, 1], [0, 0]])
    one = [5, 7, 5, 2]
    phones = ["a", "b", "b", "a"]
    assert unit_agreement(codes, phones) == unit_agreement(one, phones)
    assert bitrate([codes, codes], 2.0) == bitrate([one, one], 2.0)


def test_bitrate_is_symbols_a_second_times_their_entropy() -> None:
    sequences = [[1, 1, 2, 2, 2, 1], [], [1, 3, 3]]
    found = bitrate(sequences, 1.5)
    symbols = [unit for one in sequences for unit in one]
    runs = [unit for one in sequences for unit, _ in groupby(one)]
    assert (found.num_symbols, found.num_runs) == (9, len(runs)) == (9, 5)

    def entropy(values: list[int]) -> float:
        return -sum(n / len(values) * math.log2(n / len(values)) for n in Counter(values).values())

    assert found.entropy_bits == pytest.approx(entropy(symbols))
    assert found.bits_per_second == pytest.approx(9 / 1.5 * entropy(symbols))
    assert found.deduplicated_bits_per_second == pytest.approx(5 / 1.5 * entropy(runs))
    assert bitrate([[4, 4]], 1.0).bits_per_second == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(AuricleError, match="one phone for each of the units"):
        unit_agreement([1, 2], ["a"])
    with pytest.raises(AuricleError, match="1 or more, but got 0 units"):
        unit_agreement(np.zeros(0, dtype=int), [])
    with pytest.raises(AuricleError, match="units as integers"):
        unit_agreement([0.5], ["a"])
    with pytest.raises(AuricleError, match="1 unit or more"):
        bitrate([[]], 1.0)
    with pytest.raises(AuricleError, match="positive length, but got 1 sequences .* and 0 s"):
        bitrate([[1]], 0.0)


def units_of_tones(librispeech: Path) -> Units:
    """Two units of fbank: a frame of a low A, and one of a high C."""
    (features,) = auricle.load("fbank")([librispeech / "train/0/0-0.wav"])
    return Units(centroids=features[[10, 50]][None], layer="features", model="fbank")


def test_units_of_low_and_high_tones_agree_with_their_phones(
    librispeech: Path, tmp_path: Path
) -> None:
    units = units_of_tones(librispeech)
    encoder = auricle.load("fbank")
    seconds: list[float] = []
    utterances = read_phones(librispeech)[1]
    result = measure_units(encoder, units, utterances, name="u", on_seconds=seconds.append)
    assert sum(seconds) == pytest.approx(5.4)
    assert result.bitrate.seconds == pytest.approx(5.4)
    assert result.agreement.num_phones == 3
    assert result.agreement.num_units == 2
    # Low A and high C are apart, B in the middle is with one of them.
    assert 0.6 < result.agreement.phone_purity < 0.9
    assert result.agreement.num_frames == result.bitrate.num_symbols
    assert 0 < result.bitrate.bits_per_second <= 100
    head, *lines = units_lines(result)
    assert "2 clusters of fbank, features" in head
    assert f"{100 * result.agreement.phone_purity:.1f} %" in lines[0]
    add_units(tmp_path, result)
    add_units(tmp_path, result)
    assert read_units_results(tmp_path / "units.json") == (result,)
    assert (tmp_path / "units.md").read_text().count("| `u` |") == 1
    (tmp_path / "units.json").write_text("[]")
    with pytest.raises(AuricleError, match="no results of the task units"):
        add_units(tmp_path, result)
