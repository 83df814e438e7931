from __future__ import annotations

import pytest

from auricle.convert.npc_repo import codebooks, fbank_config, gumbel_temperature
from auricle.convert.options import Options
from auricle.errors import CheckpointError
from auricle.frontends import FbankConfig
from auricle.nn.quantizer import CodebookConfig

AUDIO = {"feat_type": "fbank", "feat_dim": 40, "frame_length": 20, "frame_shift": 12.5}


def test_the_front_end_is_hamming_and_normalised_unless_told_otherwise() -> None:
    expected = FbankConfig(
        num_mels=40, frame_length_ms=20, frame_shift_ms=12.5, window="hamming", cmvn=True
    )
    assert fbank_config(Options({**AUDIO, "decode_wav": True}, "audio")) == expected
    plain = fbank_config(Options({**AUDIO, "cmvn": False}, "audio"))
    assert plain.cmvn is False


def test_other_features_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"audio\.feat_type must be 'fbank'"):
        fbank_config(Options({**AUDIO, "feat_type": "mfcc"}, "audio"))
    with pytest.raises(CheckpointError, match="not known: speed"):
        fbank_config(Options({**AUDIO, "speed": 2}, "audio"))


def test_codebooks() -> None:
    vq = {"codebook_size": [8, 4], "code_dim": [16, 2], "gumbel_temperature": 0.7}
    paras = Options({"vq": vq}, "paras")
    assert codebooks(paras) == (
        CodebookConfig(num_entries=8, dim=16),
        CodebookConfig(num_entries=4, dim=2),
    )
    assert gumbel_temperature(paras, 1.0) == 0.7
    assert codebooks(Options({"vq": None}, "paras")) == ()
    with pytest.raises(CheckpointError, match="lists 1 codebook_size but 2 code_dim"):
        codebooks(Options({"vq": {"codebook_size": [8], "code_dim": [1, 2]}}, "paras"))
