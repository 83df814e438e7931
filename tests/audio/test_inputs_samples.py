from __future__ import annotations

import pytest
import torch

from auricle.audio.files import read_audio, read_header
from auricle.audio.inputs import sample_paths


def test_bundled_speech_is_there_with_its_attribution() -> None:
    paths = sample_paths()
    assert [path.name for path in paths] == ["2911-12359-0007.flac", "4051-11218-0044.flac"]
    notes = (paths[0].parent / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in notes
    assert all(path.name in notes for path in paths)


@pytest.mark.parametrize(("index", "num_samples"), [(0, 81_520), (1, 179_360)])
def test_bundled_speech_decodes(index: int, num_samples: int) -> None:
    path = sample_paths()[index]
    header = read_header(path)
    assert (header.num_samples, header.sample_rate, header.num_channels) == (num_samples, 16_000, 1)
    speech = read_audio(path)
    assert speech.shape == (num_samples,)
    assert 0.01 < speech.std() < 0.2
    # 16-bit samples, scaled by a power of two.
    assert torch.equal(speech * 32768, (speech * 32768).round())
