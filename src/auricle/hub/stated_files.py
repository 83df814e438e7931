"""Digests and sizes of published files that somebody states, who need not be their author."""

from __future__ import annotations

import dataclasses

from auricle.hub.records import Record

TEXTLESSLIB = "stated by its authors, in facebookresearch/textlesslib"
PUBLIC_CODE = "seen in public code, not stated by its authors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatedFile:
    """A published file and what is stated of it.

    Nothing is refused for it: where a download differs from all that is stated of its file, a
    warning says so.

    Attributes:
        place: Its URL, `hf://owner/name/file` for one of a repository, or where it was seen.
        source: Who states it.
        sha256: The whole digest in hex.
        num_bytes: Its size.
        commit: The beginning of the repository's commit that this is stated of.
    """

    place: str
    source: str = PUBLIC_CODE
    sha256: str | None = None
    num_bytes: int | None = None
    commit: str | None = None


# An entry reads as a row or two, not as a column.
# fmt: off
STATED_FILES: dict[str, tuple[StatedFile, ...]] = {
    "wav2vec2_base_960": (
        StatedFile(
            place="wav2vec_small.pt in the demonstration of UTMOS",
            sha256="c66c39eaed1b79a61ea8573f71e08f6641ff156b6a8f458cfaab53877dfa4a26",
        ),
        StatedFile(
            place="hf://facebook/wav2vec2-base/pytorch_model.bin",
            sha256="3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
            num_bytes=380_267_417, commit="0b5b8e86",
        ),
    ),
    "xls_r_300m": (
        StatedFile(
            place="https://dl.fbaipublicfiles.com/fairseq/wav2vec/xlsr2_300m.pt",
            num_bytes=3_808_868_242,
        ),
        StatedFile(
            place="hf://facebook/wav2vec2-xls-r-300m/pytorch_model.bin",
            sha256="d5e490574712ad0a6736923b9ed11d4cd51c78609c36205f704fc4e87b11d2e0",
            num_bytes=1_269_737_156, commit="1a640f32",
        ),
        StatedFile(
            place="hf://facebook/wav2vec2-xls-r-300m/config.json",
            sha256="0bffa0d0e98153e883b828d86491f3c6062cb563dc9d7a9cfd1790da30c286ac",
            num_bytes=1_568, commit="1a640f32",
        ),
        StatedFile(
            place="hf://facebook/wav2vec2-xls-r-300m/preprocessor_config.json",
            sha256="a2254a5b58f72cd4de3632f8eee64f3f098b7c1402128d2f419e7d00ae13e335",
            num_bytes=212, commit="1a640f32",
        ),
    ),
    "hubert_base": (
        StatedFile(
            place="https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960.pt",
            source=TEXTLESSLIB, num_bytes=1_136_468_879,
            sha256="1703cf8d2cdc76f8c046f5f6a9bcd224e0e6caf4744cad1a1f4199c32cac8c8d",
        ),
        StatedFile(
            place="hf://facebook/hubert-base-ls960/pytorch_model.bin",
            sha256="062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
            num_bytes=377_569_754, commit="dba3bb02",
        ),
        StatedFile(
            place="hf://facebook/hubert-base-ls960/preprocessor_config.json",
            sha256="4a93853b74278b7c769d07f5a861e5d12ceb5db2bced5620d335f87238cb9e86",
            num_bytes=213, commit="dba3bb02",
        ),
    ),
    "wavlm_base_plus": (
        StatedFile(
            place="hf://microsoft/wavlm-base-plus/pytorch_model.bin",
            sha256="3bb273a6ace99408b50cfc81afdbb7ef2de02da2eab0234e18db608ce692fe51",
            num_bytes=377_617_425, commit="4c66d480",
        ),
        StatedFile(
            place="hf://microsoft/wavlm-base-plus/config.json",
            sha256="fea6df1c2700a3954fc07e70588aecc9055eeb28db2ff57151a2db0d19180ed4",
            num_bytes=2_232, commit="4c66d480",
        ),
        StatedFile(
            place="hf://microsoft/wavlm-base-plus/preprocessor_config.json",
            sha256="99272fe8ccfab114b68b478681ea47ee3a1ce62bb788cb92dd6e4f69fb1f1da2",
            num_bytes=215, commit="4c66d480",
        ),
    ),
    "wavlm_large": (
        # The same file as the authors' WavLM-Large.pt.
        StatedFile(
            place="https://huggingface.co/s3prl/converted_ckpts/resolve/main/wavlm_large.pt",
            sha256="6fb4b3c3e6aa567f0a997b30855859cb81528ee8078802af439f7b2da0bf100f",
            num_bytes=1_261_965_425, commit="8cad0b37",
        ),
        StatedFile(
            place="hf://microsoft/wavlm-large/pytorch_model.bin",
            sha256="fdee460e529396ddb2f8c8e8ce0ad74cfb747b726bc6f612e666c7c1e1963c9d",
            num_bytes=1_261_990_257, commit="c1423ed9",
        ),
        StatedFile(
            place="hf://microsoft/wavlm-large/config.json",
            sha256="a3d8fe831aaf63d725b54a8ac36f3549cd4365c5086774b2c89cabbc6f9e129d",
            num_bytes=2_222, commit="c1423ed9",
        ),
    ),
}
# fmt: on
"""By the name of the model's record."""


def stated_files(record: Record) -> tuple[StatedFile, ...]:
    """What is stated of the files of a model."""
    return STATED_FILES.get(record.name, ())
