from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import auricle
from auricle.errors import AuricleError, LayerError
from auricle.probing.abx_report import abx_settings, measure_abx
from auricle.probing.features import frame_ranges
from auricle.probing.items import PhoneItem, read_item_task, read_items, write_items


def item(onset: float, offset: float) -> PhoneItem:
    return PhoneItem(
        file="f", onset=onset, offset=offset, phone="A", previous="B", following="C", speaker="s"
    )


def test_an_item_has_the_frames_with_their_centre_from_its_onset_up_to_its_offset() -> None:
    starts = torch.arange(5, dtype=torch.float64) / 100
    times = torch.stack([starts, starts + 0.025], dim=1)  # centres at 12.5, 22.5, ... ms
    items = [item(0.0125, 0.0325), item(0.0126, 0.0326), item(0.03, 0.031), item(0.05, 9.0)]
    expected = [[0, 2], [1, 3], [2, 2], [4, 5]]
    assert frame_ranges(times, items).tolist() == expected


def test_tones_are_kept_apart_within_and_across_speakers(librispeech: Path) -> None:
    task = read_item_task(librispeech)
    encoder = auricle.load("fbank")
    seconds: list[float] = []
    shares: list[float] = []
    result = measure_abx(
        encoder,
        task,
        abx_settings(task, any_context=True),
        on_seconds=seconds.append,
        on_share=shares.append,
    )
    (layer,) = result.layers
    assert (layer.within, layer.across) == (0.0, 0.0)
    # Three phones and three speakers: ordered pairs of phones by A's speaker, and by X's.
    assert (layer.num_within_cells, layer.num_across_cells) == (6 * 3, 6 * 3 * 2)
    assert (result.num_items, result.num_phones, result.num_speakers) == (27, 3, 3)
    assert sum(seconds) == pytest.approx(5.4)
    assert sum(shares) == pytest.approx(1.0)
    assert (result.best, result.default) == (layer, layer)


def test_labels_of_other_tones_are_errors(librispeech: Path, tmp_path: Path) -> None:
    write_items(tmp_path / "x.item", [x for of in read_item_task(librispeech).items for x in of])
    text = (tmp_path / "x.item").read_text().splitlines()
    generator = np.random.default_rng(0)
    phones = [line.split()[3] for line in text[1:]]
    shuffled = generator.permutation(phones)
    rows = [
        " ".join([*line.split()[:3], phone, *line.split()[4:]])
        for line, phone in zip(text[1:], shuffled, strict=True)
    ]
    (tmp_path / "x.item").write_text("\n".join([text[0], *rows]))
    assert len(read_items(tmp_path / "x.item")) == 27
    task = read_item_task(librispeech / "train", tmp_path / "x.item")
    settings = abx_settings(task, any_context=True)
    (layer,) = measure_abx(auricle.load("fbank"), task, settings).layers
    assert layer.across is not None
    assert 0.3 < layer.across < 0.7


def test_layers_are_chosen_and_items_without_a_frame_counted(
    librispeech: Path, tmp_path: Path
) -> None:
    lines = ["#file onset offset #phone prev-phone next-phone speaker"]
    lines += [f"0-{take} 0.05 0.15 A x y 0\n0-{take} 0.{25 + take} 0.35 B x y 0" for take in (0, 1)]
    lines.append("0-0 0.013 0.014 C x y 0")  # between two centres
    (tmp_path / "x.item").write_text("\n".join(lines))
    task = read_item_task(librispeech / "train", tmp_path / "x.item")
    encoder = auricle.load("apc_mini")
    result = measure_abx(encoder, task, abx_settings(task), layers=["rnn_2"], model="mine")
    (layer,) = result.layers
    assert (layer.name, layer.num_empty_items, result.model) == ("rnn_2", 1, "mine")
    assert (layer.num_within_cells, layer.across) == (2, None)
    assert result.skipped_layers == ("rnn_1", "rnn_3")
    assert result.default is None
    with pytest.raises(LayerError, match="rnn_9"):
        measure_abx(encoder, task, abx_settings(task), layers=["rnn_9"])


def test_items_that_do_not_fit_the_audio_or_hold_no_frame_are_refused(
    librispeech: Path, tmp_path: Path
) -> None:
    header = "#file onset offset #phone prev-phone next-phone speaker"
    encoder = auricle.load("fbank")
    for times, message in (("200 400", "reach 400 s, but it ends at 1 s"), ("0 0.001", "none of")):
        (tmp_path / "x.item").write_text(f"{header}\n0-0 {times} A x y 0\n")
        task = read_item_task(librispeech / "train", tmp_path / "x.item")
        with pytest.raises(AuricleError, match=message):
            measure_abx(encoder, task, abx_settings(task))
    with pytest.raises(AuricleError, match="training mode"):
        measure_abx(encoder.train(), task, abx_settings(task))
