"""Entry points for torch.hub: `torch.hub.load(<this repository>, <name>)`.

Written by `python tools/hub_entries.py`, not by hand.
"""

# ruff: noqa: N816 - the long names are the authors' own

from __future__ import annotations

import importlib.util
import pathlib
import sys
import typing

if importlib.util.find_spec("auricle") is None:  # not installed: use the code beside this file
    sys.path.append(str(pathlib.Path(__file__).resolve().parent / "src"))

if typing.TYPE_CHECKING:
    from auricle import Encoder as _Encoder

dependencies = [
    "filelock",
    "httpx",
    "huggingface_hub",
    "msgspec",
    "numpy",
    "platformdirs",
    "safetensors",
    "soundfile",
    "soxr",
    "torch",
    "tqdm",
]


def _load(
    name: str, *, checkpoint: str | pathlib.Path | None = None, **options: typing.Any
) -> _Encoder:
    import auricle
    from auricle.s3prl.hub import OPTIONS, load_options

    chosen = load_options(name, options, ("refresh", "family", "dtype", *OPTIONS))
    return auricle.load(name, checkpoint=checkpoint, **chosen)


def _load_url(url: str, family: str, **options: typing.Any) -> _Encoder:
    from auricle.hub.conversions import load_location
    from auricle.hub.load import usable_device
    from auricle.s3prl.hub import load_options

    known = ("config", "device", "refresh", "sha256")
    chosen = load_options(f"{family}_url", options, known)
    device = usable_device(chosen.pop("device", "auto"))
    return load_location(url, family, name=family, **chosen).build().to(device)


class _AnyName(str):
    """A private name that equals every public one.

    torch.hub looks for a name in `dir` before it gets it: by this one it comes to `__getattr__`
    with names that are no entry points too, and lists none of them.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        is_public = isinstance(other, str) and not other.startswith("_")
        return is_public or str.__eq__(self, other) is True


_any_name = _AnyName("_any_name")


def __dir__() -> list[str]:
    return [*globals(), _any_name]


def __getattr__(name: str) -> typing.Any:
    """Raise UnknownModelError with what is known of a name; models of plug-ins have no entry."""
    if not name.startswith("_"):
        from auricle.catalogue.search import find

        find(name)
    raise AttributeError(f"hubconf.py has no entry point {name!r}")


def cpc_2018(**options: typing.Any) -> _Encoder:
    """Load CPC (https://arxiv.org/abs/1807.03748), trained on LibriSpeech train-clean-100 (100 h).
    The first CPC: batch norm and a GRU; its weights were never published. Options are those of
    `auricle.load`."""
    return _load("cpc_2018", **options)


def modified_cpc(**options: typing.Any) -> _Encoder:
    """Load Modified CPC (https://arxiv.org/abs/2002.02848), trained on LibriLight (60k h). Channel
    norm and an LSTM. Options are those of `auricle.load`."""
    return _load("modified_cpc", **options)


cpc = modified_cpc


def cpc_mini(**options: typing.Any) -> _Encoder:
    """Load CPC (https://arxiv.org/abs/1807.03748), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("cpc_mini", **options)


def modified_cpc_mini(**options: typing.Any) -> _Encoder:
    """Load Modified CPC (https://arxiv.org/abs/2002.02848), trained on LibriSpeech train-clean-100,
    615 utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are
    those of `auricle.load`."""
    return _load("modified_cpc_mini", **options)


def cpc_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of CPC from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("cpc", checkpoint=ckpt, **options)


def cpc_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of CPC from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "cpc", **options)


def apc_360hr(**options: typing.Any) -> _Encoder:
    """Load APC (https://arxiv.org/abs/1904.03240), trained on LibriSpeech train-clean-360 (360 h).
    Options are those of `auricle.load`."""
    return _load("apc_360hr", **options)


apc = apc_360hr


def apc_960hr(**options: typing.Any) -> _Encoder:
    """Load APC (https://arxiv.org/abs/1904.03240), trained on LibriSpeech (960 h). Options are
    those of `auricle.load`."""
    return _load("apc_960hr", **options)


def apc_mini(**options: typing.Any) -> _Encoder:
    """Load APC (https://arxiv.org/abs/1904.03240), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("apc_mini", **options)


def apc_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of APC from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("apc", checkpoint=ckpt, **options)


def apc_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of APC from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "apc", **options)


def pase_2019(**options: typing.Any) -> _Encoder:
    """Load PASE (https://arxiv.org/abs/1904.03416), trained on LibriSpeech (10 h). The first PASE;
    its weights were never published. Options are those of `auricle.load`."""
    return _load("pase_2019", **options)


pase = pase_2019


def pase_plus(**options: typing.Any) -> _Encoder:
    """Load PASE+ (https://arxiv.org/abs/2001.09239), trained on LibriSpeech (50 h). QRNN and dense
    skips. Options are those of `auricle.load`."""
    return _load("pase_plus", **options)


def pase_mini(**options: typing.Any) -> _Encoder:
    """Load PASE (https://arxiv.org/abs/1904.03416), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("pase_mini", **options)


def pase_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of PASE from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("pase", checkpoint=ckpt, **options)


def pase_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of PASE from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "pase", **options)


def wav2vec_large(**options: typing.Any) -> _Encoder:
    """Load wav2vec (https://arxiv.org/abs/1904.05862), trained on LibriSpeech (960 h). The authors'
    own file most likely holds training state of fairseq.meters, which is read without running it.
    Options are those of `auricle.load`."""
    return _load("wav2vec_large", **options)


wav2vec = wav2vec_large


def wav2vec_mini(**options: typing.Any) -> _Encoder:
    """Load wav2vec (https://arxiv.org/abs/1904.05862), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("wav2vec_mini", **options)


def wav2vec_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("wav2vec", checkpoint=ckpt, **options)


def wav2vec_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "wav2vec", **options)


def wav2vec_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec from a file or an address. Paths, `https:` and `hf://` addresses
    are read. Options are those of `auricle.load`."""
    return _load("wav2vec", checkpoint=ckpt, **options)


def vq_wav2vec_gumbel(**options: typing.Any) -> _Encoder:
    """Load vq-wav2vec (https://arxiv.org/abs/1910.05453), trained on LibriSpeech (960 h). The
    authors' own file most likely holds training state of fairseq.meters, which is read without
    running it. Options are those of `auricle.load`."""
    return _load("vq_wav2vec_gumbel", **options)


vq_wav2vec = vq_wav2vec_gumbel


def vq_wav2vec_kmeans(**options: typing.Any) -> _Encoder:
    """Load vq-wav2vec (https://arxiv.org/abs/1910.05453), trained on LibriSpeech (960 h). The
    authors' own file most likely holds training state of fairseq.meters, which is read without
    running it. Options are those of `auricle.load`."""
    return _load("vq_wav2vec_kmeans", **options)


def vq_wav2vec_mini(**options: typing.Any) -> _Encoder:
    """Load vq-wav2vec (https://arxiv.org/abs/1910.05453), trained on LibriSpeech train-clean-100,
    615 utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are
    those of `auricle.load`."""
    return _load("vq_wav2vec_mini", **options)


def vq_wav2vec_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of vq-wav2vec from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("vq_wav2vec", checkpoint=ckpt, **options)


def vq_wav2vec_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of vq-wav2vec from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "vq_wav2vec", **options)


def vq_wav2vec_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of vq-wav2vec from a file or an address. Paths, `https:` and `hf://`
    addresses are read. Options are those of `auricle.load`."""
    return _load("vq_wav2vec", checkpoint=ckpt, **options)


def mockingjay_origin(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech train-clean-360
    (360 h). Large: 12 layers, log mel in, linear spectrogram as target; dropout 0.1. Options are
    those of `auricle.load`."""
    return _load("mockingjay_origin", **options)


mockingjay = mockingjay_origin
mockingjay_logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1 = mockingjay_origin


def mockingjay_100hr(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech train-clean-100
    (100 h). Base: 3 layers. Options are those of `auricle.load`."""
    return _load("mockingjay_100hr", **options)


mockingjay_logMelBase_T_AdamW_b32_200k_100hr = mockingjay_100hr


def mockingjay_960hr(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech (960 h). Base: 3
    layers; dropout 0.1. Options are those of `auricle.load`."""
    return _load("mockingjay_960hr", **options)


mockingjay_logMelBase_T_AdamW_b32_1m_960hr_drop1 = mockingjay_960hr


def mockingjay_960hr_drop3(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech (960 h). Base: 3
    layers; dropout 0.3. Options are those of `auricle.load`."""
    return _load("mockingjay_960hr_drop3", **options)


mockingjay_logMelBase_T_AdamW_b32_1m_960hr = mockingjay_960hr_drop3


def mockingjay_960hr_seq3k(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech (960 h). Base: 3
    layers; trained on sequences of up to 3000 frames, not 1500. Options are those of
    `auricle.load`."""
    return _load("mockingjay_960hr_seq3k", **options)


mockingjay_logMelBase_T_AdamW_b32_1m_960hr_seq3k = mockingjay_960hr_seq3k


def mockingjay_mini(**options: typing.Any) -> _Encoder:
    """Load Mockingjay (https://arxiv.org/abs/1910.12638), trained on LibriSpeech train-clean-100,
    615 utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are
    those of `auricle.load`."""
    return _load("mockingjay_mini", **options)


def mockingjay_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Mockingjay from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("mockingjay", checkpoint=ckpt, **options)


def mockingjay_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Mockingjay from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "mockingjay", **options)


def vq_apc_360hr(**options: typing.Any) -> _Encoder:
    """Load VQ-APC (https://arxiv.org/abs/2005.08392), trained on LibriSpeech train-clean-360 (360
    h). Options are those of `auricle.load`."""
    return _load("vq_apc_360hr", **options)


vq_apc = vq_apc_360hr


def vq_apc_960hr(**options: typing.Any) -> _Encoder:
    """Load VQ-APC (https://arxiv.org/abs/2005.08392), trained on LibriSpeech (960 h). Options are
    those of `auricle.load`."""
    return _load("vq_apc_960hr", **options)


def vq_apc_mini(**options: typing.Any) -> _Encoder:
    """Load VQ-APC (https://arxiv.org/abs/2005.08392), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("vq_apc_mini", **options)


def vq_apc_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of VQ-APC from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("vq_apc", checkpoint=ckpt, **options)


def vq_apc_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of VQ-APC from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "vq_apc", **options)


def audio_albert_960hr(**options: typing.Any) -> _Encoder:
    """Load Audio ALBERT (https://arxiv.org/abs/2005.08575), trained on LibriSpeech (960 h). Base: 3
    layers that share weights; dropout 0.1. Options are those of `auricle.load`."""
    return _load("audio_albert_960hr", **options)


audio_albert = audio_albert_960hr
audio_albert_logMelBase_T_share_AdamW_b32_1m_960hr_drop1 = audio_albert_960hr


def audio_albert_mini(**options: typing.Any) -> _Encoder:
    """Load Audio ALBERT (https://arxiv.org/abs/2005.08575), trained on LibriSpeech train-clean-100,
    615 utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are
    those of `auricle.load`."""
    return _load("audio_albert_mini", **options)


def audio_albert_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Audio ALBERT from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("audio_albert", checkpoint=ckpt, **options)


def audio_albert_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Audio ALBERT from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "audio_albert", **options)


def wav2vec2_base_960(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on LibriSpeech (960 h). The copy
    facebook/wav2vec2-base normalises its input, which its authors did not. Options are those of
    `auricle.load`."""
    return _load("wav2vec2_base_960", **options)


wav2vec2 = wav2vec2_base_960


def wav2vec2_large_960(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on LibriSpeech (960 h). The copy
    facebook/wav2vec2-large normalises its input, which its authors did not. Options are those of
    `auricle.load`."""
    return _load("wav2vec2_large_960", **options)


def wav2vec2_large_ll60k(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on LibriLight (60k h). Options
    are those of `auricle.load`."""
    return _load("wav2vec2_large_ll60k", **options)


def wav2vec2_large_lv60_cv_swbd_fsh(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2104.01027), trained on LibriLight, Common Voice,
    Switchboard, Fisher. Whether its authors normalised waveforms is not known from elsewhere: the
    preprocessor of the copy decides. Options are those of `auricle.load`."""
    return _load("wav2vec2_large_lv60_cv_swbd_fsh", **options)


def xlsr_53(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.13979), trained on 53 languages of MLS, Common
    Voice and BABEL (56k h). Options are those of `auricle.load`."""
    return _load("xlsr_53", **options)


def xls_r_300m(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2111.09296), trained on 128 languages of VoxPopuli,
    MLS, CommonVoice, VoxLingua107 and BABEL (436k h). Options are those of `auricle.load`."""
    return _load("xls_r_300m", **options)


def xls_r_1b(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2111.09296), trained on 128 languages of VoxPopuli,
    MLS, CommonVoice, VoxLingua107 and BABEL (436k h). Options are those of `auricle.load`."""
    return _load("xls_r_1b", **options)


def xls_r_2b(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2111.09296), trained on 128 languages of VoxPopuli,
    MLS, CommonVoice, VoxLingua107 and BABEL (436k h). Options are those of `auricle.load`."""
    return _load("xls_r_2b", **options)


def mms_300m(**options: typing.Any) -> _Encoder:
    """Load MMS (https://arxiv.org/abs/2305.13516), trained on 1,406 languages (491k h). The files
    that are fine-tuned for recognition (mms-1b-all) have adapters: they load with
    without_adapters=True. Options are those of `auricle.load`."""
    return _load("mms_300m", **options)


def mms_1b(**options: typing.Any) -> _Encoder:
    """Load MMS (https://arxiv.org/abs/2305.13516), trained on 1,406 languages (491k h). The files
    that are fine-tuned for recognition (mms-1b-all) have adapters: they load with
    without_adapters=True. Options are those of `auricle.load`."""
    return _load("mms_1b", **options)


def chinese_wav2vec2_base(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on WenetSpeech, Mandarin (10k
    h). Options are those of `auricle.load`."""
    return _load("chinese_wav2vec2_base", **options)


def chinese_wav2vec2_large(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on WenetSpeech, Mandarin (10k
    h). Options are those of `auricle.load`."""
    return _load("chinese_wav2vec2_large", **options)


def japanese_wav2vec2_base(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on ReazonSpeech v1, Japanese
    (19k h). Options are those of `auricle.load`."""
    return _load("japanese_wav2vec2_base", **options)


def wav2vec2_large_voxpopuli_100k(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2101.00390), trained on VoxPopuli, 23 languages (100k
    h). Options are those of `auricle.load`."""
    return _load("wav2vec2_large_voxpopuli_100k", **options)


def wav2vec2_base_s2st_es_voxpopuli(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2204.02967), trained on VoxPopuli (Spanish). Options
    are those of `auricle.load`."""
    return _load("wav2vec2_base_s2st_es_voxpopuli", **options)


def wav2vec2_base_s2st_en_librilight(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2204.02967), trained on LibriLight. Options are those
    of `auricle.load`."""
    return _load("wav2vec2_base_s2st_en_librilight", **options)


def wav2vec2_mini(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 (https://arxiv.org/abs/2006.11477), trained on LibriSpeech train-clean-100,
    615 utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are
    those of `auricle.load`."""
    return _load("wav2vec2_mini", **options)


def wav2vec2_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec 2.0 from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("wav2vec2", checkpoint=ckpt, **options)


def wav2vec2_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec 2.0 from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "wav2vec2", **options)


def wav2vec2_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec 2.0 from a file or an address. Paths, `https:` and `hf://`
    addresses are read. Options are those of `auricle.load`."""
    return _load("wav2vec2", checkpoint=ckpt, **options)


def tera_960hr(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech (960 h). Base: 3 layers;
    altered in time, frequency and magnitude; dropout 0.1. Options are those of `auricle.load`."""
    return _load("tera_960hr", **options)


tera = tera_960hr
tera_logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1 = tera_960hr


def tera_100hr(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech train-clean-100 (100 h).
    Base: 3 layers; altered in time, frequency and magnitude. Options are those of
    `auricle.load`."""
    return _load("tera_100hr", **options)


tera_logMelBase_T_F_M_AdamW_b32_200k_100hr = tera_100hr


def tera_tf_100hr(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech train-clean-100 (100 h).
    Base: 3 layers; altered in time and frequency. Options are those of `auricle.load`."""
    return _load("tera_tf_100hr", **options)


tera_logMelBase_T_F_AdamW_b32_200k_100hr = tera_tf_100hr


def tera_tf_960hr_drop3(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech (960 h). Base: 3 layers;
    altered in time and frequency; dropout 0.3. Options are those of `auricle.load`."""
    return _load("tera_tf_960hr_drop3", **options)


tera_logMelBase_T_F_AdamW_b32_1m_960hr = tera_tf_960hr_drop3


def tera_tf_960hr_drop1(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech (960 h). Base: 3 layers;
    altered in time and frequency; dropout 0.1. Options are those of `auricle.load`."""
    return _load("tera_tf_960hr_drop1", **options)


tera_logMelBase_T_F_AdamW_b32_1m_960hr_drop1 = tera_tf_960hr_drop1


def tera_tf_960hr_seq3k(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech (960 h). Base: 3 layers;
    altered in time and frequency; sequences of up to 3000 frames. Options are those of
    `auricle.load`."""
    return _load("tera_tf_960hr_seq3k", **options)


tera_logMelBase_T_F_AdamW_b32_1m_960hr_seq3k = tera_tf_960hr_seq3k


def tera_fbank_100hr(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech train-clean-100 (100 h).
    Base: 3 layers; Kaldi fbank with deltas (240 dims) in; time and frequency. Options are those of
    `auricle.load`."""
    return _load("tera_fbank_100hr", **options)


tera_fbankBase_T_F_AdamW_b32_200k_100hr = tera_fbank_100hr


def tera_mini(**options: typing.Any) -> _Encoder:
    """Load TERA (https://arxiv.org/abs/2007.06028), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("tera_mini", **options)


def tera_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of TERA from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("tera", checkpoint=ckpt, **options)


def tera_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of TERA from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "tera", **options)


def wav2vec2_conformer_relpos(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 Conformer (https://arxiv.org/abs/2010.05171), trained on LibriLight (60k h).
    Sinusoids of distances, as Transformer-XL; its authors' file is
    fairseq/conformer/wav2vec2/librilight/LL_relpos_PT_no_FT at dl.fbaipublicfiles.com. Options are
    those of `auricle.load`."""
    return _load("wav2vec2_conformer_relpos", **options)


wav2vec2_conformer = wav2vec2_conformer_relpos


def wav2vec2_conformer_rope(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 Conformer (https://arxiv.org/abs/2010.05171), trained on LibriLight (60k h).
    Rotary positions; its authors' file is LL_rope_PT_no_FT in the same place. Options are those of
    `auricle.load`."""
    return _load("wav2vec2_conformer_rope", **options)


def wav2vec2_conformer_s2st_es(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 Conformer (https://arxiv.org/abs/2204.02967), trained on VoxPopuli
    (Spanish). Options are those of `auricle.load`."""
    return _load("wav2vec2_conformer_s2st_es", **options)


wav2vec2_conformer_large_s2st_es_voxpopuli = wav2vec2_conformer_s2st_es


def wav2vec2_conformer_s2st_en(**options: typing.Any) -> _Encoder:
    """Load wav2vec 2.0 Conformer (https://arxiv.org/abs/2204.02967), trained on LibriLight. Options
    are those of `auricle.load`."""
    return _load("wav2vec2_conformer_s2st_en", **options)


wav2vec2_conformer_large_s2st_en_librilight = wav2vec2_conformer_s2st_en


def wav2vec2_conformer_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec 2.0 Conformer from a file. The file is in the authors' format or
    the library's own. Options are those of `auricle.load`."""
    return _load("wav2vec2_conformer", checkpoint=ckpt, **options)


def wav2vec2_conformer_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of wav2vec 2.0 Conformer from a URL. The file is kept in the cache.
    Options: sha256 (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "wav2vec2_conformer", **options)


def npc_360hr(**options: typing.Any) -> _Encoder:
    """Load NPC (https://arxiv.org/abs/2011.00406), trained on LibriSpeech train-clean-360 (360 h).
    Options are those of `auricle.load`."""
    return _load("npc_360hr", **options)


npc = npc_360hr


def npc_960hr(**options: typing.Any) -> _Encoder:
    """Load NPC (https://arxiv.org/abs/2011.00406), trained on LibriSpeech (960 h). Options are
    those of `auricle.load`."""
    return _load("npc_960hr", **options)


def npc_mini(**options: typing.Any) -> _Encoder:
    """Load NPC (https://arxiv.org/abs/2011.00406), trained on LibriSpeech train-clean-100, 615
    utterances (2.0 h). Small, trained by auricle, in the package: works offline. Options are those
    of `auricle.load`."""
    return _load("npc_mini", **options)


def npc_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of NPC from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("npc", checkpoint=ckpt, **options)


def npc_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of NPC from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "npc", **options)


def hubert_base(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on LibriSpeech (960 h). Not
    normalised, as its authors have it; the preprocessor of the copy facebook/hubert-base-ls960 says
    otherwise. Options are those of `auricle.load`."""
    return _load("hubert_base", **options)


hubert = hubert_base


def hubert_large(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on LibriLight (60k h). Options are
    those of `auricle.load`."""
    return _load("hubert_large", **options)


hubert_large_ll60k = hubert_large


def hubert_xlarge(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on LibriLight (60k h). Options are
    those of `auricle.load`."""
    return _load("hubert_xlarge", **options)


hubert_xlarge_ll60k = hubert_xlarge


def distilhubert(**options: typing.Any) -> _Encoder:
    """Load DistilHuBERT (https://arxiv.org/abs/2110.01900), trained on LibriSpeech (960 h). Two
    layers distilled of hubert_base; its heads, whose last is s3prl's last_hidden_state, are left
    out. Options are those of `auricle.load`."""
    return _load("distilhubert", **options)


distilhubert_base = distilhubert


def hubert_base_robust_mgr(**options: typing.Any) -> _Encoder:
    """Load HuBERT-MGR (https://arxiv.org/abs/2203.16104), trained on LibriSpeech (960 h).
    Hubert_base trained further with music, noise and reverberation. Options are those of
    `auricle.load`."""
    return _load("hubert_base_robust_mgr", **options)


def mhubert_base_vp_en_es_fr_it3(**options: typing.Any) -> _Encoder:
    """Load mHuBERT (https://arxiv.org/abs/2112.08352), trained on VoxPopuli (English, Spanish,
    French). Its 11th layer gives the units of textless speech translation. Options are those of
    `auricle.load`."""
    return _load("mhubert_base_vp_en_es_fr_it3", **options)


def contentvec_km100(**options: typing.Any) -> _Encoder:
    """Load ContentVec (https://arxiv.org/abs/2204.09224), trained on LibriSpeech (960 h). Of 100
    classes. Options are those of `auricle.load`."""
    return _load("contentvec_km100", **options)


contentvec = contentvec_km100


def contentvec_km500(**options: typing.Any) -> _Encoder:
    """Load ContentVec (https://arxiv.org/abs/2204.09224), trained on LibriSpeech (960 h). Of 500
    classes; converters of voices take layer_9 through the final_proj of the file (version 1), which
    is left out here, or layer_12 (version 2). Options are those of `auricle.load`."""
    return _load("contentvec_km500", **options)


def ms_hubert(**options: typing.Any) -> _Encoder:
    """Load MS-HuBERT (https://arxiv.org/abs/2406.05661), trained on LibriSpeech (960 h). Options
    are those of `auricle.load`."""
    return _load("ms_hubert", **options)


def mhubert_147(**options: typing.Any) -> _Encoder:
    """Load mHuBERT-147 (https://arxiv.org/abs/2406.06371), trained on speech under open licences in
    147 languages (90k h). The third and last iteration. Options are those of `auricle.load`."""
    return _load("mhubert_147", **options)


def chinese_hubert_base(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on WenetSpeech, Mandarin (10k h).
    Options are those of `auricle.load`."""
    return _load("chinese_hubert_base", **options)


def chinese_hubert_large(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on WenetSpeech, Mandarin (10k h).
    Options are those of `auricle.load`."""
    return _load("chinese_hubert_large", **options)


def japanese_hubert_base(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on ReazonSpeech v1, Japanese (19k h).
    Options are those of `auricle.load`."""
    return _load("japanese_hubert_base", **options)


def japanese_hubert_large(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on ReazonSpeech v1, Japanese (19k h).
    Options are those of `auricle.load`."""
    return _load("japanese_hubert_large", **options)


def kushinada_hubert_base(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on Japanese broadcasts (62k h).
    Options are those of `auricle.load`."""
    return _load("kushinada_hubert_base", **options)


def kushinada_hubert_large(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on Japanese broadcasts (62k h).
    Options are those of `auricle.load`."""
    return _load("kushinada_hubert_large", **options)


def hubert_base_korean(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on Korean (4k h). Of 8 heads, says
    its card. Options are those of `auricle.load`."""
    return _load("hubert_base_korean", **options)


def hubert_large_korean(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on Korean (4k h). Options are those
    of `auricle.load`."""
    return _load("hubert_large_korean", **options)


def espnet_hubert_base_iter0(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2306.06672), trained on LibriSpeech (960 h). Trained by
    ESPnet, first iteration. Options are those of `auricle.load`."""
    return _load("espnet_hubert_base_iter0", **options)


def espnet_hubert_base_iter1(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2306.06672), trained on LibriSpeech (960 h). Trained by
    ESPnet, second iteration. Options are those of `auricle.load`."""
    return _load("espnet_hubert_base_iter1", **options)


def espnet_hubert_large_gs_ll60k(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2306.06672), trained on LibriLight (60k h). Trained by
    ESPnet, whose encoders do not normalise waveforms. Options are those of `auricle.load`."""
    return _load("espnet_hubert_large_gs_ll60k", **options)


def cvhubert(**options: typing.Any) -> _Encoder:
    """Load CV-HuBERT (https://arxiv.org/abs/2309.15317), trained on Common Voice. Trained by
    ESPnet, multilingual. Options are those of `auricle.load`."""
    return _load("cvhubert", **options)


def wavlablm_ek_40k(**options: typing.Any) -> _Encoder:
    """Load WavLabLM (https://arxiv.org/abs/2309.15317), trained on 136 languages (40k h). Trained
    by ESPnet, whose encoders do not normalise waveforms. Options are those of `auricle.load`."""
    return _load("wavlablm_ek_40k", **options)


def wavlablm_mk_40k(**options: typing.Any) -> _Encoder:
    """Load WavLabLM (https://arxiv.org/abs/2309.15317), trained on 136 languages (40k h). Trained
    by ESPnet, whose encoders do not normalise waveforms. Options are those of `auricle.load`."""
    return _load("wavlablm_mk_40k", **options)


def wavlablm_ms_40k(**options: typing.Any) -> _Encoder:
    """Load WavLabLM (https://arxiv.org/abs/2309.15317), trained on 136 languages (40k h). Trained
    by ESPnet, whose encoders do not normalise waveforms. Options are those of `auricle.load`."""
    return _load("wavlablm_ms_40k", **options)


def hubert_mini(**options: typing.Any) -> _Encoder:
    """Load HuBERT (https://arxiv.org/abs/2106.07447), trained on LibriSpeech train-clean-100, 248
    utterances of 248 speakers (0.9 h), none of those of the phone probe. Small, trained by auricle,
    in the package: works offline. Options are those of `auricle.load`."""
    return _load("hubert_mini", **options)


def hubert_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of HuBERT from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("hubert", checkpoint=ckpt, **options)


def hubert_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of HuBERT from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "hubert", **options)


def hubert_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of HuBERT from a file or an address. Paths, `https:` and `hf://` addresses
    are read. Options are those of `auricle.load`."""
    return _load("hubert", checkpoint=ckpt, **options)


distiller_local = hubert_local


distiller_url = hubert_url


def espnet_hubert_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of HuBERT from a file or an address. Paths, `https:` and `hf://` addresses
    are read. Options are those of `auricle.load`."""
    return _load("hubert", checkpoint=ckpt, **options)


espnet_hubert_local = hubert_local


def unispeech_sat_base(**options: typing.Any) -> _Encoder:
    """Load UniSpeech-SAT (https://arxiv.org/abs/2110.05752), trained on LibriSpeech (960 h).
    Options are those of `auricle.load`."""
    return _load("unispeech_sat_base", **options)


def unispeech_sat_base_plus(**options: typing.Any) -> _Encoder:
    """Load UniSpeech-SAT (https://arxiv.org/abs/2110.05752), trained on LibriLight, GigaSpeech,
    VoxPopuli (94k h). Options are those of `auricle.load`."""
    return _load("unispeech_sat_base_plus", **options)


unispeech_sat = unispeech_sat_base_plus


def unispeech_sat_large(**options: typing.Any) -> _Encoder:
    """Load UniSpeech-SAT (https://arxiv.org/abs/2110.05752), trained on LibriLight, GigaSpeech,
    VoxPopuli (94k h). Options are those of `auricle.load`."""
    return _load("unispeech_sat_large", **options)


def unispeech_sat_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of UniSpeech-SAT from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("unispeech_sat", checkpoint=ckpt, **options)


def unispeech_sat_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of UniSpeech-SAT from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "unispeech_sat", **options)


def wavlm_base(**options: typing.Any) -> _Encoder:
    """Load WavLM (https://arxiv.org/abs/2110.13900), trained on LibriSpeech (960 h). Options are
    those of `auricle.load`."""
    return _load("wavlm_base", **options)


def wavlm_base_plus(**options: typing.Any) -> _Encoder:
    """Load WavLM (https://arxiv.org/abs/2110.13900), trained on LibriLight, GigaSpeech, VoxPopuli
    (94k h). Options are those of `auricle.load`."""
    return _load("wavlm_base_plus", **options)


wavlm = wavlm_base_plus


def wavlm_large(**options: typing.Any) -> _Encoder:
    """Load WavLM (https://arxiv.org/abs/2110.13900), trained on LibriLight, GigaSpeech, VoxPopuli
    (94k h). Options are those of `auricle.load`."""
    return _load("wavlm_large", **options)


def wavlm_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of WavLM from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("wavlm", checkpoint=ckpt, **options)


def wavlm_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of WavLM from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "wavlm", **options)


def bestrq(**options: typing.Any) -> _Encoder:
    """Load BEST-RQ (https://arxiv.org/abs/2202.01855), trained on LibriSpeech (960 h), in the
    recipe. Never published: the size is that of SpeechBrain's recipe, whose trainings give folders
    to load. Options are those of `auricle.load`."""
    return _load("bestrq", **options)


def bestrq_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of BEST-RQ from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("bestrq", checkpoint=ckpt, **options)


def bestrq_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of BEST-RQ from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "bestrq", **options)


def data2vec_audio_base(**options: typing.Any) -> _Encoder:
    """Load data2vec audio (https://arxiv.org/abs/2202.03555), trained on LibriSpeech (960 h).
    Options are those of `auricle.load`."""
    return _load("data2vec_audio_base", **options)


data2vec = data2vec_audio_base
data2vec_base_960 = data2vec_audio_base


def data2vec_audio_large(**options: typing.Any) -> _Encoder:
    """Load data2vec audio (https://arxiv.org/abs/2202.03555), trained on LibriLight (60k h).
    Whether its authors normalised waveforms is not known from elsewhere: the preprocessor of the
    copy decides. Options are those of `auricle.load`."""
    return _load("data2vec_audio_large", **options)


data2vec_large_ll60k = data2vec_audio_large


def japanese_data2vec_audio_base(**options: typing.Any) -> _Encoder:
    """Load data2vec audio (https://arxiv.org/abs/2202.03555), trained on ReazonSpeech v1, Japanese
    (19k h). Options are those of `auricle.load`."""
    return _load("japanese_data2vec_audio_base", **options)


def data2vec_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of data2vec audio from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("data2vec", checkpoint=ckpt, **options)


def data2vec_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of data2vec audio from a URL. The file is kept in the cache. Options:
    sha256 (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "data2vec", **options)


def data2vec_custom(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of data2vec audio from a file or an address. Paths, `https:` and `hf://`
    addresses are read. Options are those of `auricle.load`."""
    return _load("data2vec", checkpoint=ckpt, **options)


def whisper_tiny(**options: typing.Any) -> _Encoder:
    """Load Whisper tiny (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_tiny", **options)


def whisper_tiny_en(**options: typing.Any) -> _Encoder:
    """Load Whisper tiny.en (https://arxiv.org/abs/2212.04356), trained on English part (438k h) of
    680k h of speech with transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_tiny_en", **options)


def whisper_base(**options: typing.Any) -> _Encoder:
    """Load Whisper base (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_base", **options)


whisper = whisper_base


def whisper_base_en(**options: typing.Any) -> _Encoder:
    """Load Whisper base.en (https://arxiv.org/abs/2212.04356), trained on English part (438k h) of
    680k h of speech with transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_base_en", **options)


def whisper_small(**options: typing.Any) -> _Encoder:
    """Load Whisper small (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_small", **options)


def whisper_small_en(**options: typing.Any) -> _Encoder:
    """Load Whisper small.en (https://arxiv.org/abs/2212.04356), trained on English part (438k h) of
    680k h of speech with transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_small_en", **options)


def whisper_medium(**options: typing.Any) -> _Encoder:
    """Load Whisper medium (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_medium", **options)


def whisper_medium_en(**options: typing.Any) -> _Encoder:
    """Load Whisper medium.en (https://arxiv.org/abs/2212.04356), trained on English part (438k h)
    of 680k h of speech with transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_medium_en", **options)


def whisper_large_v1(**options: typing.Any) -> _Encoder:
    """Load Whisper large-v1 (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_large_v1", **options)


def whisper_large_v2(**options: typing.Any) -> _Encoder:
    """Load Whisper large-v2 (https://arxiv.org/abs/2212.04356), trained on 680k h of speech with
    transcripts from the web. Options are those of `auricle.load`."""
    return _load("whisper_large_v2", **options)


def whisper_large_v3(**options: typing.Any) -> _Encoder:
    """Load Whisper large-v3 (https://arxiv.org/abs/2212.04356), trained on 1M h of speech with
    transcripts from the web, 4M h with those of large-v2. Options are those of `auricle.load`."""
    return _load("whisper_large_v3", **options)


whisper_large = whisper_large_v3


def whisper_large_v3_turbo(**options: typing.Any) -> _Encoder:
    """Load Whisper large-v3-turbo (https://arxiv.org/abs/2212.04356), trained on 1M h of speech
    with transcripts from the web, 4M h with those of large-v2. The encoder of a model with 4 layers
    of decoder. Options are those of `auricle.load`."""
    return _load("whisper_large_v3_turbo", **options)


whisper_turbo = whisper_large_v3_turbo


def whisper_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Whisper from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("whisper", checkpoint=ckpt, **options)


def whisper_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Whisper from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "whisper", **options)


def data2vec2_base(**options: typing.Any) -> _Encoder:
    """Load data2vec 2.0 audio (https://arxiv.org/abs/2212.07525), trained on LibriSpeech (960 h).
    Options are those of `auricle.load`."""
    return _load("data2vec2_base", **options)


data2vec2 = data2vec2_base


def data2vec2_large(**options: typing.Any) -> _Encoder:
    """Load data2vec 2.0 audio (https://arxiv.org/abs/2212.07525), trained on LibriLight (60k h).
    Options are those of `auricle.load`."""
    return _load("data2vec2_large", **options)


def data2vec2_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of data2vec 2.0 audio from a file. The file is in the authors' format or
    the library's own. Options are those of `auricle.load`."""
    return _load("data2vec2", checkpoint=ckpt, **options)


def data2vec2_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of data2vec 2.0 audio from a URL. The file is kept in the cache. Options:
    sha256 (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "data2vec2", **options)


def parakeet_ctc_06b(**options: typing.Any) -> _Encoder:
    """Load Parakeet CTC 0.6B (https://arxiv.org/abs/2305.05084), trained on English speech with
    labels (64k h). Labelled speech: an encoder of recognition, 12.5 frames a second. Options are
    those of `auricle.load`."""
    return _load("parakeet_ctc_06b", **options)


def parakeet_ctc_11b(**options: typing.Any) -> _Encoder:
    """Load Parakeet CTC 1.1B (https://arxiv.org/abs/2305.05084), trained on English speech with
    labels (64k h). Labelled speech: an encoder of recognition, 12.5 frames a second. Options are
    those of `auricle.load`."""
    return _load("parakeet_ctc_11b", **options)


parakeet = parakeet_ctc_11b


def nest_large(**options: typing.Any) -> _Encoder:
    """Load NEST Large (https://arxiv.org/abs/2408.13106), trained on English speech (about 100k h).
    Self-supervised, 12.5 frames a second; the depth is that of its model card. Options are those of
    `auricle.load`."""
    return _load("nest_large", **options)


def nest_xlarge(**options: typing.Any) -> _Encoder:
    """Load NEST XLarge (https://arxiv.org/abs/2408.13106), trained on English speech (about 100k
    h). Self-supervised, 12.5 frames a second. Options are those of `auricle.load`."""
    return _load("nest_xlarge", **options)


def parakeet_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Parakeet from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("parakeet", checkpoint=ckpt, **options)


def parakeet_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Parakeet from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "parakeet", **options)


def dinosr_base(**options: typing.Any) -> _Encoder:
    """Load DinoSR (https://arxiv.org/abs/2305.10005), trained on LibriSpeech (960 h). Its
    repository has no licence file. Options are those of `auricle.load`."""
    return _load("dinosr_base", **options)


dinosr = dinosr_base
dinosr_base_original = dinosr_base


def dinosr_base_reproduced(**options: typing.Any) -> _Encoder:
    """Load DinoSR (https://arxiv.org/abs/2305.10005), trained on LibriSpeech (960 h). Trained again
    by the authors of SpidR, without biases of queries, keys and values. Options are those of
    `auricle.load`."""
    return _load("dinosr_base_reproduced", **options)


def dinosr_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of DinoSR from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("dinosr", checkpoint=ckpt, **options)


def dinosr_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of DinoSR from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "dinosr", **options)


def spin_hubert_128(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Hubert_base trained further; 128 clusters. Options are those of `auricle.load`."""
    return _load("spin_hubert_128", **options)


def spin_hubert_256(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Hubert_base trained further; 256 clusters. Options are those of `auricle.load`."""
    return _load("spin_hubert_256", **options)


spin = spin_hubert_256


def spin_hubert_512(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Hubert_base trained further; 512 clusters. Options are those of `auricle.load`."""
    return _load("spin_hubert_512", **options)


def spin_hubert_1024(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Hubert_base trained further; 1024 clusters. Options are those of `auricle.load`."""
    return _load("spin_hubert_1024", **options)


def spin_hubert_2048(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Hubert_base trained further; 2048 clusters. Options are those of `auricle.load`."""
    return _load("spin_hubert_2048", **options)


def spin_wavlm_128(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Wavlm_base trained further; 128 clusters. Options are those of `auricle.load`."""
    return _load("spin_wavlm_128", **options)


def spin_wavlm_256(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Wavlm_base trained further; 256 clusters. Options are those of `auricle.load`."""
    return _load("spin_wavlm_256", **options)


def spin_wavlm_512(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Wavlm_base trained further; 512 clusters. Options are those of `auricle.load`."""
    return _load("spin_wavlm_512", **options)


def spin_wavlm_1024(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Wavlm_base trained further; 1024 clusters. Options are those of `auricle.load`."""
    return _load("spin_wavlm_1024", **options)


def spin_wavlm_2048(**options: typing.Any) -> _Encoder:
    """Load Spin (https://arxiv.org/abs/2305.11072), trained on LibriSpeech (960 h), then its train-
    clean-100. Wavlm_base trained further; 2048 clusters. Options are those of `auricle.load`."""
    return _load("spin_wavlm_2048", **options)


def rspin_wavlm_32(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 32 clusters, 40,000 acoustic pieces, the
    best for speech recognition, say its authors. Options are those of `auricle.load`."""
    return _load("rspin_wavlm_32", **options)


rspin = rspin_wavlm_32


def rspin_wavlm_64(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 64 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_64", **options)


def rspin_wavlm_128(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 128 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_128", **options)


def rspin_wavlm_256(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 256 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_256", **options)


def rspin_wavlm_512(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 512 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_512", **options)


def rspin_wavlm_1024(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 1024 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_1024", **options)


def rspin_wavlm_2048(**options: typing.Any) -> _Encoder:
    """Load R-Spin (https://arxiv.org/abs/2311.09117), trained on LibriSpeech (960 h), then its
    train-clean-100 with noise. Wavlm_base trained further; 2048 clusters, 40,000 acoustic pieces.
    Options are those of `auricle.load`."""
    return _load("rspin_wavlm_2048", **options)


def spin_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Spin from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("spin", checkpoint=ckpt, **options)


def spin_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Spin from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "spin", **options)


def w2v_bert_2(**options: typing.Any) -> _Encoder:
    """Load w2v-BERT 2.0 (https://arxiv.org/abs/2312.05187), trained on unlabelled speech in more
    than 143 languages (4.5M h). Its front end is Kaldi's filterbank, two frames side by side;
    codecs and speech generators take layer_17. Options are those of `auricle.load`."""
    return _load("w2v_bert_2", **options)


w2v_bert = w2v_bert_2


def w2v_bert_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of w2v-BERT 2.0 from a file. The file is in the authors' format or the
    library's own. Options are those of `auricle.load`."""
    return _load("w2v_bert", checkpoint=ckpt, **options)


def w2v_bert_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of w2v-BERT 2.0 from a URL. The file is kept in the cache. Options: sha256
    (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "w2v_bert", **options)


def omniasr_w2v_300m(**options: typing.Any) -> _Encoder:
    """Load Omnilingual wav2vec 2.0 (https://arxiv.org/abs/2511.09690), trained on more than 1,600
    languages (4.3M h). Options are those of `auricle.load`."""
    return _load("omniasr_w2v_300m", **options)


omniasr = omniasr_w2v_300m
omniasr_w2v = omniasr_w2v_300m


def omniasr_w2v_1b(**options: typing.Any) -> _Encoder:
    """Load Omnilingual wav2vec 2.0 (https://arxiv.org/abs/2511.09690), trained on more than 1,600
    languages (4.3M h). Options are those of `auricle.load`."""
    return _load("omniasr_w2v_1b", **options)


def omniasr_w2v_3b(**options: typing.Any) -> _Encoder:
    """Load Omnilingual wav2vec 2.0 (https://arxiv.org/abs/2511.09690), trained on more than 1,600
    languages (4.3M h). Options are those of `auricle.load`."""
    return _load("omniasr_w2v_3b", **options)


def omniasr_w2v_7b(**options: typing.Any) -> _Encoder:
    """Load Omnilingual wav2vec 2.0 (https://arxiv.org/abs/2511.09690), trained on more than 1,600
    languages (4.3M h). Options are those of `auricle.load`."""
    return _load("omniasr_w2v_7b", **options)


def omniasr_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Omnilingual wav2vec 2.0 from a file. The file is in the authors' format
    or the library's own. Options are those of `auricle.load`."""
    return _load("omniasr", checkpoint=ckpt, **options)


def omniasr_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of Omnilingual wav2vec 2.0 from a URL. The file is kept in the cache.
    Options: sha256 (its digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "omniasr", **options)


def spidr_base(**options: typing.Any) -> _Encoder:
    """Load SpidR (https://arxiv.org/abs/2512.20308), trained on LibriSpeech (960 h). Its authors
    take units and distances from ffn_6. Options are those of `auricle.load`."""
    return _load("spidr_base", **options)


spidr = spidr_base


def spidr_local(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of SpidR from a file. The file is in the authors' format or the library's
    own. Options are those of `auricle.load`."""
    return _load("spidr", checkpoint=ckpt, **options)


def spidr_url(ckpt: str, **options: typing.Any) -> _Encoder:
    """Load a checkpoint of SpidR from a URL. The file is kept in the cache. Options: sha256 (its
    digest in hex), config, device, refresh, as of `auricle.load`."""
    return _load_url(ckpt, "spidr", **options)


def fbank(**options: typing.Any) -> _Encoder:
    """Load the baseline fbank: Kaldi log mel filter bank, 80 dims. Options are those of
    `auricle.load`."""
    return _load("fbank", **options)


def mel(**options: typing.Any) -> _Encoder:
    """Load the baseline mel: log mel spectrogram, 80 dims. Options are those of `auricle.load`."""
    return _load("mel", **options)


def mfcc(**options: typing.Any) -> _Encoder:
    """Load the baseline mfcc: mel-frequency cepstral coefficients. Options are those of
    `auricle.load`."""
    return _load("mfcc", **options)


def mfcc_deltas(**options: typing.Any) -> _Encoder:
    """Load the baseline mfcc_deltas: mel-frequency cepstral coefficients with deltas of first and
    second order, 39 dims. Options are those of `auricle.load`."""
    return _load("mfcc_deltas", **options)


def spectrogram(**options: typing.Any) -> _Encoder:
    """Load the baseline spectrogram: log power spectrogram, 201 dims. Options are those of
    `auricle.load`."""
    return _load("spectrogram", **options)


def s3prl_fbank(**options: typing.Any) -> _Encoder:
    """Load the baseline s3prl_fbank: fbank with deltas of two orders and CMVN, 240 dims: the fbank
    of s3prl. Options are those of `auricle.load`."""
    return _load("s3prl_fbank", **options)


def s3prl_mel(**options: typing.Any) -> _Encoder:
    """Load the baseline s3prl_mel: log mel spectrogram with CMVN and without level, 80 dims: the
    mel of s3prl. Options are those of `auricle.load`."""
    return _load("s3prl_mel", **options)


def s3prl_linear(**options: typing.Any) -> _Encoder:
    """Load the baseline s3prl_linear: log power spectrogram with CMVN and without level, 201 dims:
    the linear of s3prl. Options are those of `auricle.load`."""
    return _load("s3prl_linear", **options)
