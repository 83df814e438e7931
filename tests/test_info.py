from __future__ import annotations

from auricle.info import FrameGeometry, LayerInfo, Paper, Provenance, Window


def test_a_layer_has_no_codebooks_unless_it_is_quantised() -> None:
    geometry = FrameGeometry((Window(size=400, stride=160),))
    assert LayerInfo(name="z", dim=8, geometry=geometry).num_codebooks == 0


def test_a_paper_has_its_address() -> None:
    paper = Paper(title="T", arxiv="1904.03240", date="2019-04-05")
    assert paper.url == "https://arxiv.org/abs/1904.03240"


def test_an_origin_that_is_not_known_is_none() -> None:
    assert set(vars(Provenance()).values()) == {None}
