"""The data of the catalogue: every published checkpoint, with what is known about it."""

from __future__ import annotations

import dataclasses

from auricle.models.families import find_family
from auricle.outputs import Paper

APC_SERIES = "https://huggingface.co/leo19941227/apc_series/resolve/main"
S3PRL_HUB = "https://huggingface.co/s3prl"
DROPBOX = "https://www.dropbox.com/s"

CONVERTED = f"{S3PRL_HUB}/converted_ckpts/resolve/main"
FAIRSEQ_FILES = "https://dl.fbaipublicfiles.com/fairseq/wav2vec"
CPC_FILES = "https://dl.fbaipublicfiles.com/librilight/CPC_checkpoints"

FAIRSEQ_LICENCE = "MIT, stated by the repository facebookresearch/fairseq"
CPC_LICENCE = "MIT, stated by the repository facebookresearch/CPC_audio"
NPC_LICENCE = "MIT, stated by the repository Alexander-H-Liu/NPC"
S3PRL_LICENCE = "Apache-2.0, stated by the repository s3prl/s3prl"
MINI_LICENCE = (
    "CC BY 4.0, as its speech: LibriSpeech, (c) 2014 Vassil Panayotov (Panayotov, Chen, Povey, "
    "Khudanpur, ICASSP 2015)"
)

LIBRISPEECH_10 = "LibriSpeech (10 h)"
LIBRISPEECH_50 = "LibriSpeech (50 h)"
LIBRISPEECH_100 = "LibriSpeech train-clean-100 (100 h)"
LIBRISPEECH_360 = "LibriSpeech train-clean-360 (360 h)"
LIBRISPEECH_960 = "LibriSpeech (960 h)"
LIBRILIGHT = "LibriLight (60k h)"
MINI_DATA = "LibriSpeech train-clean-100, 615 utterances (2.0 h)"
WAVLM_DATA = "LibriLight, GigaSpeech, VoxPopuli (94k h)"
XLS_R_DATA = "128 languages of VoxPopuli, MLS, CommonVoice, VoxLingua107 and BABEL (436k h)"

MODIFIED_CPC = Paper(
    title="Unsupervised pretraining transfers well across languages",
    arxiv="2002.02848",
    date="2020-02-07",
)
PASE_PLUS = Paper(
    title="Multi-task self-supervised learning for Robust Speech Recognition",
    arxiv="2001.09239",
    date="2020-01-25",
)
XLSR = Paper(
    title="Unsupervised Cross-lingual Representation Learning for Speech Recognition",
    arxiv="2006.13979",
    date="2020-06-24",
)
ROBUST = Paper(
    title="Robust wav2vec 2.0: Analyzing Domain Shift in Self-Supervised Pre-Training",
    arxiv="2104.01027",
    date="2021-04-02",
)
XLS_R = Paper(
    title="XLS-R: Self-supervised Cross-lingual Speech Representation Learning at Scale",
    arxiv="2111.09296",
    date="2021-11-17",
)


DEFAULT_MODEL = "apc_mini"
"""The embedded model that the commands take where none is named: the best of them on phones."""


METERS = (
    "the authors' own file most likely holds training state of fairseq.meters, which is read "
    "without running it"
)
COPY_DECIDES = (
    "whether its authors normalised waveforms is not known from elsewhere: the preprocessor of the "
    "copy decides"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One checkpoint, published or embedded in the library, or one baseline, which needs none.

    `embedded` says that the weights lie in an installed package: in `package`, which is the library
    itself or a plug-in, as `pretrained/<name>.safetensors`. `urls` are mirrors of one and the same
    model, in order of preference: `https:` files, and `hf://` repositories in the format of
    Hugging Face. It is empty where no weights were published, for an embedded checkpoint and for a
    baseline. `config_url` is where a file's configuration lies if that is a file of its own.
    `size` names the published size, one of the family's `PRESETS`.
    `sha256` is the whole digest in hex, `sha256_prefix` its first digits where only those are
    known, and both are what the authors state: a file with another digest is refused. `num_bytes`
    is the size of the file at `urls` where that is known. What others state of files is in
    `hub.stated_files`.
    `normalize` says whether the authors' code brings waveforms to zero mean and unit variance. It
    holds by this name whatever the preprocessor of a copy says; None where the file decides. All
    are those of torchaudio 2.9.0, whose bundles are made of the authors' files, and for data2vec
    that of the configuration in its file.
    `title` and `paper` are the family's unless this model is a later variant with its own.
    `licence` is what the repository states; None where nothing is stated.
    """

    name: str
    family: str
    urls: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    size: str | None = None
    config_url: str | None = None
    own_title: str | None = None
    own_paper: Paper | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    training_data: str | None = None
    licence: str | None = None
    note: str = ""
    embedded: bool = False
    package: str = "auricle"
    num_bytes: int | None = None
    normalize: bool | None = None

    @property
    def title(self) -> str:
        """What the model is called in print."""
        return self.own_title or find_family(self.family).title

    @property
    def paper(self) -> Paper | None:
        """The publication it comes from; None for a baseline."""
        return self.own_paper or find_family(self.family).paper

    @property
    def released(self) -> str:
        """Publication date (ISO) of the paper, empty for a baseline."""
        return self.paper.date if self.paper else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds this record: its own first, then its aliases."""
        return (self.name, *self.aliases)


def _fairseq(
    family: str,
    name: str,
    file: str,
    *,
    size: str,
    data: str,
    aliases: tuple[str, ...] = (),
    converted: bool = False,
    hub: str | None = None,
    paper: Paper | None = None,
    note: str = "",
    normalize: bool | None = None,
) -> Record:
    """A checkpoint that fairseq's authors published as `file`.

    `converted` says that the s3prl authors have it on Hugging Face without what fairseq needs,
    `hub` is its repository in the format of Hugging Face.
    """
    urls = [f"hf://{hub}"] if hub else []
    urls += [f"{CONVERTED}/{file}"] if converted else []
    return Record(
        name=name,
        family=family,
        urls=(*urls, f"{FAIRSEQ_FILES}/{file}"),
        aliases=aliases,
        size=size,
        training_data=data,
        licence=FAIRSEQ_LICENCE,
        own_paper=paper,
        note=note,
        normalize=normalize,
    )


def _hub(
    family: str,
    name: str,
    repository: str,
    *,
    data: str,
    size: str | None = None,
    aliases: tuple[str, ...] = (),
    licence: str | None = None,
    note: str = "",
    normalize: bool | None = None,
) -> Record:
    """A checkpoint whose authors published it in the format of Hugging Face."""
    return Record(
        name=name,
        family=family,
        urls=(f"hf://{repository}",),
        aliases=aliases,
        size=size or name,
        training_data=data,
        licence=licence,
        note=note,
        normalize=normalize,
    )


def _baseline(name: str, note: str) -> Record:
    return Record(name=name, family="baseline", urls=(), note=note)


def _mini(
    family: str,
    sha256: str,
    *,
    name: str | None = None,
    title: str | None = None,
    paper: Paper | None = None,
) -> Record:
    """A small encoder that ships with the library, trained by the recipe of its name."""
    name = name or family
    return Record(
        name=f"{name}_mini",
        family=family,
        urls=(),
        own_title=title,
        own_paper=paper,
        sha256=sha256,
        training_data=MINI_DATA,
        licence=MINI_LICENCE,
        note="small, trained by auricle, in the package: works offline",
        embedded=True,
    )


def _apc_series(family: str, hours: int) -> Record:
    """APC, VQ-APC or NPC: the authors' files, one for each size of the training set."""
    name = f"{family}_{hours}hr"
    return Record(
        name=name,
        family=family,
        urls=(f"{APC_SERIES}/{name}.ckpt",),
        aliases=(family,) if hours == 360 else (),
        training_data={360: LIBRISPEECH_360, 960: LIBRISPEECH_960}[hours],
        licence=NPC_LICENCE,
        size=family,
    )


def _s3prl(
    family: str,
    name: str,
    recipe: str,
    *dropbox: str,
    data: str,
    note: str,
    size: str,
    hub: bool = False,
    default: bool = False,
) -> Record:
    """A checkpoint of the s3prl authors, which they name by its whole training `recipe`.

    `dropbox` are the ids of their shared files, `hub` says that it is on Hugging Face too,
    `default` that the bare name of the family means this one.
    """
    steps = {"200k": 200_000, "500k": 500_000, "1m": 1_000_000}
    num_steps = next(number for word, number in steps.items() if f"_{word}_" in recipe)
    file = f"states-{num_steps}.ckpt"
    long_name = f"{family}_{recipe}"
    urls = [f"{S3PRL_HUB}/{family}/resolve/main/{long_name}/{file}"] if hub else []
    urls += [f"{DROPBOX}/{share}/{file}?dl=1" for share in dropbox]
    return Record(
        name=name,
        family=family,
        urls=tuple(urls),
        aliases=(family, long_name) if default else (long_name,),
        training_data=data,
        licence=S3PRL_LICENCE,
        note=note,
        size=size,
    )


# An entry reads as a row or two, not as a column.
# fmt: off
RECORDS: tuple[Record, ...] = (
    _apc_series("apc", 360),
    _apc_series("apc", 960),
    _mini("apc", "72c75756c137aea04782a1263c9397aa1d3b6f69822dc2180d136ea77c9ad5a5"),
    _s3prl(
        "mockingjay", "mockingjay_origin", "logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1",
        data=LIBRISPEECH_360, hub=True, default=True,
        note="large: 12 layers, log mel in, linear spectrogram as target; dropout 0.1",
        size="mockingjay_large",
    ),
    _s3prl(
        "mockingjay", "mockingjay_100hr", "logMelBase_T_AdamW_b32_200k_100hr",
        "luorglf8mdg67l2", data=LIBRISPEECH_100, note="base: 3 layers",
        size="mockingjay_base",
    ),
    _s3prl(
        "mockingjay", "mockingjay_960hr", "logMelBase_T_AdamW_b32_1m_960hr_drop1",
        "7f9z6dzc7oix6qv", data=LIBRISPEECH_960, note="base: 3 layers; dropout 0.1",
        size="mockingjay_base",
    ),
    _s3prl(
        "mockingjay", "mockingjay_960hr_drop3", "logMelBase_T_AdamW_b32_1m_960hr",
        "jzx0xggk663jev6", data=LIBRISPEECH_960, note="base: 3 layers; dropout 0.3",
        size="mockingjay_base",
    ),
    _s3prl(
        "mockingjay", "mockingjay_960hr_seq3k", "logMelBase_T_AdamW_b32_1m_960hr_seq3k",
        "qnnvdrai2tfmjmh", data=LIBRISPEECH_960,
        note="base: 3 layers; trained on sequences of up to 3000 frames, not 1500",
        size="mockingjay_base",
    ),
    _mini("mockingjay", "645b8537d6d36b4dae813a266dae7b12c59a17ef3e5f1567db28ba6bdf00f035"),
    _apc_series("vq_apc", 360),
    _apc_series("vq_apc", 960),
    _mini("vq_apc", "05bea16a0f52b2f98da89f4800ab439769defd16ad71a88dd8c929bbe9a44ab2"),
    _s3prl(
        "audio_albert", "audio_albert_960hr", "logMelBase_T_share_AdamW_b32_1m_960hr_drop1",
        data=LIBRISPEECH_960, hub=True, default=True,
        note="base: 3 layers that share weights; dropout 0.1",
        size="audio_albert_3",
    ),
    _mini("audio_albert", "8659f6c71af939b7300e010340d2dd2a9fda78b215d23d015a6397ef596b6224"),
    _s3prl(
        "tera", "tera_960hr", "logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1",
        data=LIBRISPEECH_960, hub=True, default=True,
        note="base: 3 layers; altered in time, frequency and magnitude; dropout 0.1",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_100hr", "logMelBase_T_F_M_AdamW_b32_200k_100hr",
        "l9ryl82k64m1lsk", data=LIBRISPEECH_100,
        note="base: 3 layers; altered in time, frequency and magnitude",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_tf_100hr", "logMelBase_T_F_AdamW_b32_200k_100hr",
        "o36qt1zgtn3tsep", data=LIBRISPEECH_100,
        note="base: 3 layers; altered in time and frequency",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_tf_960hr_drop3", "logMelBase_T_F_AdamW_b32_1m_960hr",
        "98olxex0m7oy9ta", data=LIBRISPEECH_960,
        note="base: 3 layers; altered in time and frequency; dropout 0.3",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_tf_960hr_drop1", "logMelBase_T_F_AdamW_b32_1m_960hr_drop1",
        "2ekbt2gxlkbvfz0", data=LIBRISPEECH_960,
        note="base: 3 layers; altered in time and frequency; dropout 0.1",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_tf_960hr_seq3k", "logMelBase_T_F_AdamW_b32_1m_960hr_seq3k",
        "tfysinbalpm3gsj", data=LIBRISPEECH_960,
        note="base: 3 layers; altered in time and frequency; sequences of up to 3000 frames",
        size="tera_base",
    ),
    _s3prl(
        "tera", "tera_fbank_100hr", "fbankBase_T_F_AdamW_b32_200k_100hr",
        "i32ob29m6afufot", data=LIBRISPEECH_100,
        note="base: 3 layers; Kaldi fbank with deltas (240 dims) in; time and frequency",
        size="tera_base",
    ),
    _mini("tera", "72b03df7be02d4f9275925719bbf6fa041eb9ffa01379d6ecc1beb707ef9bfbb"),
    _apc_series("npc", 360),
    _apc_series("npc", 960),
    _mini("npc", "62fab04ce76de9235f0f2b528c7872f3262eed26d071ef6e46c8dba3127cb80b"),
    Record(
        name="cpc_2018", family="cpc", urls=(), size="cpc", training_data=LIBRISPEECH_100,
        note="the first CPC: batch norm and a GRU; its weights were never published",
    ),
    Record(
        name="modified_cpc", family="cpc", urls=(f"{CPC_FILES}/60k_epoch4-d0f474de.pt",),
        aliases=("cpc",), size="modified_cpc", own_title="Modified CPC", own_paper=MODIFIED_CPC,
        sha256_prefix="d0f474de", training_data=LIBRILIGHT, licence=CPC_LICENCE,
        note="channel norm and an LSTM",
    ),
    _mini("cpc", "265aeda9b556db6085adbc44ea37039a5afb1427ea4526e24db5db2247b34136"),
    _mini(
        "cpc", "a3f2256d9c47f2dc7c776a489ec23c96b4b2dc4c9bbcfbfd904c62a9da0b491d",
        name="modified_cpc", title="Modified CPC", paper=MODIFIED_CPC,
    ),
    Record(
        name="pase_2019", family="pase", urls=(), aliases=("pase",), size="pase",
        training_data=LIBRISPEECH_10,
        note="the first PASE; its weights were never published",
    ),
    Record(
        name="pase_plus", family="pase", urls=(f"{DROPBOX}/p8811o7eadv4pat/FE_e199.ckpt?dl=1",),
        config_url=f"{DROPBOX}/2p3ouod1k0ekfxn/PASE%2B.cfg?dl=1", size="pase_plus",
        own_title="PASE+", own_paper=PASE_PLUS, training_data=LIBRISPEECH_50,
        note="QRNN and dense skips",
    ),
    _mini("pase", "8dbcd646a2627fb4a80e70044ff7242db945389f097f84d7d2283e57b58c0237"),
    _fairseq(
        "wav2vec", "wav2vec_large", "wav2vec_large.pt", size="wav2vec_large",
        data=LIBRISPEECH_960, aliases=("wav2vec",), converted=True, note=METERS,
    ),
    _mini("wav2vec", "c5610052be8cf39cea1a40ac960ddf1a6a4d2279cf23464fd4c7af4acb61bfe8"),
    _fairseq(
        "vq_wav2vec", "vq_wav2vec_gumbel", "vq-wav2vec.pt", size="vq_wav2vec",
        data=LIBRISPEECH_960, aliases=("vq_wav2vec",), converted=True, note=METERS,
    ),
    _fairseq(
        "vq_wav2vec", "vq_wav2vec_kmeans", "vq-wav2vec_kmeans.pt", size="vq_wav2vec_kmeans",
        data=LIBRISPEECH_960, converted=True, note=METERS,
    ),
    _mini("vq_wav2vec", "c2804d40f2dab82a05f4a6c7d99dea1d9747489e21cd87cea1495ea9a7568b8f"),
    _fairseq(
        "wav2vec2", "wav2vec2_base_960", "wav2vec_small.pt", size="wav2vec2_base_960",
        data=LIBRISPEECH_960, aliases=("wav2vec2",), converted=True, normalize=False,
        note="the copy facebook/wav2vec2-base normalises its input, which its authors did not",
    ),
    _fairseq(
        "wav2vec2", "wav2vec2_large_960", "libri960_big.pt", size="wav2vec2_large_960",
        data=LIBRISPEECH_960, normalize=False,
        note="the copy facebook/wav2vec2-large normalises its input, which its authors did not",
    ),
    _fairseq(
        "wav2vec2", "wav2vec2_large_ll60k", "wav2vec_vox_new.pt", size="wav2vec2_large_ll60k",
        data=LIBRILIGHT, hub="facebook/wav2vec2-large-lv60", normalize=True,
    ),
    _fairseq(
        "wav2vec2", "wav2vec2_large_lv60_cv_swbd_fsh", "w2v_large_lv_fsh_swbd_cv.pt",
        size="wav2vec2_large_lv60_cv_swbd_fsh", hub="facebook/wav2vec2-large-robust",
        data="LibriLight, Common Voice, Switchboard, Fisher", paper=ROBUST,
        note=COPY_DECIDES,
    ),
    _fairseq(
        "wav2vec2", "xlsr_53", "xlsr_53_56k.pt", size="xlsr_53", paper=XLSR,
        data="53 languages of MLS, Common Voice and BABEL (56k h)",
        hub="facebook/wav2vec2-large-xlsr-53", normalize=True,
    ),
    _fairseq(
        "wav2vec2", "xls_r_300m", "xlsr2_300m.pt", size="xls_r_300m", paper=XLS_R,
        data=XLS_R_DATA, hub="facebook/wav2vec2-xls-r-300m", normalize=True,
    ),
    _fairseq(
        "wav2vec2", "xls_r_1b", "xlsr2_960m_1000k.pt", size="xls_r_1b", paper=XLS_R,
        data=XLS_R_DATA, hub="facebook/wav2vec2-xls-r-1b", normalize=True,
    ),
    _fairseq(
        "wav2vec2", "xls_r_2b", "xlsr2_2B_1000k.pt", size="xls_r_2b", paper=XLS_R,
        data=XLS_R_DATA, hub="facebook/wav2vec2-xls-r-2b", normalize=True,
    ),
    _mini("wav2vec2", "59affa8e7494fe340c4ebff9cbf8b4ebd2b7fce61ba78066ae41c89ad3e352ca"),
    _hub(
        "hubert", "hubert_base", "facebook/hubert-base-ls960", data=LIBRISPEECH_960,
        aliases=("hubert",), normalize=False,
        note="not normalised, as its authors have it; the preprocessor of the copy "
        "facebook/hubert-base-ls960 says otherwise",
    ),
    _hub(
        "hubert", "hubert_large", "facebook/hubert-large-ll60k", data=LIBRILIGHT, normalize=True,
    ),
    _hub("wavlm", "wavlm_base", "microsoft/wavlm-base", data=LIBRISPEECH_960, normalize=False),
    _hub(
        "wavlm", "wavlm_base_plus", "microsoft/wavlm-base-plus", data=WAVLM_DATA,
        aliases=("wavlm",), normalize=False,
    ),
    _hub(
        "wavlm", "wavlm_large", "microsoft/wavlm-large", data=WAVLM_DATA, normalize=True,
    ),
    _hub(
        "data2vec", "data2vec_audio_base", "facebook/data2vec-audio-base", data=LIBRISPEECH_960,
        aliases=("data2vec",), normalize=True,
    ),
    _hub(
        "data2vec", "data2vec_audio_large", "facebook/data2vec-audio-large", data=LIBRILIGHT,
        note=COPY_DECIDES,
    ),
    _baseline("fbank", "Kaldi log mel filter bank, 80 dims"),
    _baseline("mel", "log mel spectrogram, 80 dims"),
    _baseline("mfcc", "mel-frequency cepstral coefficients"),
    _baseline("spectrogram", "log power spectrogram, 201 dims"),
)
# fmt: on
"""Every entry of the catalogue, a family's together; `list_models` sorts them by date."""
