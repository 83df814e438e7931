from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import auricle
from auricle.audio.files import read_audio
from auricle.corpus.utterance import Segment
from auricle.errors import AudioError
from auricle.info import FrameGeometry, LayerInfo, Window
from auricle.models.base import Encoder
from auricle.models.definition import Config
from auricle.nn.batch import Batch, frames_of
from auricle.probing import features as module
from auricle.probing.features import collect, label_frames
from auricle.probing.tasks import read_task


class TwoRates(Encoder):
    """Two layers, 2.5 ms and 20 ms apart, whose frames hold their own number."""

    family = "baseline"
    config_type = Config
    is_faster_together = True  # whole batches come to `encode`

    def __init__(self) -> None:
        super().__init__(Config())
        self.batch_sizes: list[int] = []
        self.eval()

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        hops = (("dense", 40), ("sparse", 320))
        return tuple(
            LayerInfo(name=name, dim=2, geometry=FrameGeometry((Window(size=hop, stride=hop),)))
            for name, hop in hops
        )

    def encode(self, batch: Batch, wanted: frozenset[str]) -> Iterator[tuple[str, Batch]]:
        self.batch_sizes.append(len(batch.values))
        for info in self.layer_infos:
            num_frames = info.geometry.num_frames(batch.values.shape[1])
            frames = torch.arange(num_frames, dtype=torch.float32)[None, :, None]
            frames = frames.expand(len(batch.values), -1, info.dim)
            yield info.name, Batch.padded(frames, frames_of(info.geometry, batch.lengths))


def test_a_frame_has_the_label_at_its_centre() -> None:
    segments = (
        Segment(label="a", start=0.1, end=0.2),
        Segment(label="b", start=0.2, end=0.3),
        Segment(label="c", start=0.5, end=0.6),
    )
    centres = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7]
    # Spans of one width around them, which would give other labels at their starts or ends.
    times = torch.tensor([[c - 0.0625, c + 0.0625] for c in centres], dtype=torch.float64)
    found = label_frames(times.round(decimals=6), segments)
    assert found.tolist() == [-1, 0, 0, 1, 1, -1, -1, 2, -1, -1]


def test_a_centre_at_the_end_of_a_segment_belongs_to_the_next() -> None:
    times = TwoRates().frame_times(16_000 * 2, "sparse")
    for index, pair in enumerate(times):
        edge = (index + 0.5) / 50  # as a file states it; the mean of two ends rounds either way
        segments = [Segment(start=0, end=edge, label="A"), Segment(start=edge, end=9, label="B")]
        assert label_frames(pair[None], segments).tolist() == [1]


def test_each_layer_is_labelled_by_its_own_times(librispeech: Path) -> None:
    task = read_task("phones", librispeech)
    encoder = TwoRates()
    examples = collect(encoder, task, encoder.layer_infos)
    for name, frames_per_phone in (("dense", 80), ("sparse", 10)):
        one = examples[name]
        is_first = one.utterances == 0
        assert one.features[is_first, 0].tolist() == list(range(5 * frames_per_phone))
        assert "".join(one.labels[is_first]) == "".join(
            label * frames_per_phone for label in "ABCBA"
        )
        assert one.frame_step == 1
        assert set(one.utterances.tolist()) == set(range(6))


def test_too_many_frames_are_thinned_evenly(librispeech: Path) -> None:
    task = read_task("phones", librispeech)
    encoder = TwoRates()
    # 27 phones of 0.2 s: 2160 dense frames, 270 sparse ones.
    examples = collect(encoder, task, encoder.layer_infos, max_frames=300)
    dense, sparse = examples["dense"], examples["sparse"]
    assert (dense.frame_step, sparse.frame_step) == (8, 1)
    assert (len(dense.labels), len(sparse.labels)) == (270, 270)
    assert dense.features[:3, 0].tolist() == [4, 12, 20]


def test_utterances_are_means_over_time_whatever_the_batch(
    arabic_words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_task("words", arabic_words)
    encoder = auricle.load("fbank")
    together = collect(encoder, task, encoder.layer_infos)["features"]
    monkeypatch.setattr(module, "BATCH_SECONDS", 0.25)
    apart = collect(encoder, task, encoder.layer_infos)["features"]
    for index, utterance in enumerate(task.utterances):
        mean = encoder([read_audio(utterance.source)])[0].mean(dim=0).numpy()
        for examples in (together, apart):
            np.testing.assert_allclose(examples.features[index], mean, rtol=1e-4, atol=1e-4)
            assert examples.labels[index] == utterance.labels["word"]
            assert examples.utterances[index] == index


def test_one_pass_in_batches_within_the_budget(
    librispeech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_task("phones", librispeech)  # three of 1 s, three of 0.8 s
    monkeypatch.setattr(module, "BATCH_SECONDS", 2.0)
    encoder = TwoRates()
    heard: list[float] = []
    collect(encoder, task, encoder.layer_infos, on_seconds=heard.append)
    assert encoder.batch_sizes == [2, 2, 2]
    assert heard == pytest.approx([2.0, 1.8, 1.6])


def test_a_layer_of_its_own_is_the_same_as_among_all(librispeech: Path) -> None:
    task = read_task("phones", librispeech)
    encoder = TwoRates()
    alone = collect(encoder, task, encoder.layer_infos[:1])
    among = collect(encoder, task, encoder.layer_infos)
    assert list(alone) == ["dense"]
    np.testing.assert_array_equal(alone["dense"].features, among["dense"].features)


def test_a_file_too_short_for_the_encoder_is_named(librispeech: Path) -> None:
    task = read_task("speakers", librispeech)

    class Long(TwoRates):
        @property
        def min_samples(self) -> int:
            return 2000

    encoder = Long()
    with pytest.raises(
        AudioError, match=r"6 of 18 utterances are shorter than the 0.125 s .*x-0\.wav"
    ):
        collect(encoder, task, encoder.layer_infos)
