"""Entry points for torch.hub: `torch.hub.load(<this repository>, <name>)`."""

# ruff: noqa: N816  # the long names are those the authors published their checkpoints under

from __future__ import annotations

import importlib.util
import pathlib
import sys

if importlib.util.find_spec("auricle") is None:  # not installed: use the code beside this file
    sys.path.append(str(pathlib.Path(__file__).resolve().parent / "src"))

# torch.hub lists every callable without an underscore as an entry point.
from auricle.hub import entrypoints as _entrypoints

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

_baseline = _entrypoints.baseline
_local = _entrypoints.local
_named = _entrypoints.named
_url = _entrypoints.url

apc = _named("apc")
apc_360hr = _named("apc_360hr")
apc_960hr = _named("apc_960hr")
apc_mini = _named("apc_mini")
apc_local = _local("apc")
apc_url = _url("apc")

vq_apc = _named("vq_apc")
vq_apc_360hr = _named("vq_apc_360hr")
vq_apc_960hr = _named("vq_apc_960hr")
vq_apc_mini = _named("vq_apc_mini")
vq_apc_local = _local("vq_apc")
vq_apc_url = _url("vq_apc")

npc = _named("npc")
npc_360hr = _named("npc_360hr")
npc_960hr = _named("npc_960hr")
npc_mini = _named("npc_mini")
npc_local = _local("npc")
npc_url = _url("npc")

mockingjay = _named("mockingjay")
mockingjay_origin = _named("mockingjay_origin")
mockingjay_logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1 = _named(
    "mockingjay_logMelLinearLarge_T_AdamW_b32_500k_360hr_drop1"
)
mockingjay_100hr = _named("mockingjay_100hr")
mockingjay_logMelBase_T_AdamW_b32_200k_100hr = _named(
    "mockingjay_logMelBase_T_AdamW_b32_200k_100hr"
)
mockingjay_960hr = _named("mockingjay_960hr")
mockingjay_logMelBase_T_AdamW_b32_1m_960hr_drop1 = _named(
    "mockingjay_logMelBase_T_AdamW_b32_1m_960hr_drop1"
)
mockingjay_960hr_drop3 = _named("mockingjay_960hr_drop3")
mockingjay_logMelBase_T_AdamW_b32_1m_960hr = _named("mockingjay_logMelBase_T_AdamW_b32_1m_960hr")
mockingjay_960hr_seq3k = _named("mockingjay_960hr_seq3k")
mockingjay_logMelBase_T_AdamW_b32_1m_960hr_seq3k = _named(
    "mockingjay_logMelBase_T_AdamW_b32_1m_960hr_seq3k"
)
mockingjay_mini = _named("mockingjay_mini")
mockingjay_local = _local("mockingjay")
mockingjay_url = _url("mockingjay")

tera = _named("tera")
tera_960hr = _named("tera_960hr")
tera_logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1 = _named(
    "tera_logMelBase_T_F_M_AdamW_b32_1m_960hr_drop1"
)
tera_100hr = _named("tera_100hr")
tera_logMelBase_T_F_M_AdamW_b32_200k_100hr = _named("tera_logMelBase_T_F_M_AdamW_b32_200k_100hr")
tera_tf_100hr = _named("tera_tf_100hr")
tera_logMelBase_T_F_AdamW_b32_200k_100hr = _named("tera_logMelBase_T_F_AdamW_b32_200k_100hr")
tera_tf_960hr_drop3 = _named("tera_tf_960hr_drop3")
tera_logMelBase_T_F_AdamW_b32_1m_960hr = _named("tera_logMelBase_T_F_AdamW_b32_1m_960hr")
tera_tf_960hr_drop1 = _named("tera_tf_960hr_drop1")
tera_logMelBase_T_F_AdamW_b32_1m_960hr_drop1 = _named(
    "tera_logMelBase_T_F_AdamW_b32_1m_960hr_drop1"
)
tera_tf_960hr_seq3k = _named("tera_tf_960hr_seq3k")
tera_logMelBase_T_F_AdamW_b32_1m_960hr_seq3k = _named(
    "tera_logMelBase_T_F_AdamW_b32_1m_960hr_seq3k"
)
tera_fbank_100hr = _named("tera_fbank_100hr")
tera_fbankBase_T_F_AdamW_b32_200k_100hr = _named("tera_fbankBase_T_F_AdamW_b32_200k_100hr")
tera_mini = _named("tera_mini")
tera_local = _local("tera")
tera_url = _url("tera")

audio_albert = _named("audio_albert")
audio_albert_960hr = _named("audio_albert_960hr")
audio_albert_logMelBase_T_share_AdamW_b32_1m_960hr_drop1 = _named(
    "audio_albert_logMelBase_T_share_AdamW_b32_1m_960hr_drop1"
)
audio_albert_mini = _named("audio_albert_mini")
audio_albert_local = _local("audio_albert")
audio_albert_url = _url("audio_albert")

cpc_2018 = _named("cpc_2018")
cpc = _named("cpc")
modified_cpc = _named("modified_cpc")
cpc_mini = _named("cpc_mini")
modified_cpc_mini = _named("modified_cpc_mini")
cpc_local = _local("cpc")
cpc_url = _url("cpc")

pase = _named("pase")
pase_2019 = _named("pase_2019")
pase_plus = _named("pase_plus")
pase_mini = _named("pase_mini")
pase_local = _local("pase")
pase_url = _url("pase")

wav2vec = _named("wav2vec")
wav2vec_large = _named("wav2vec_large")
wav2vec_mini = _named("wav2vec_mini")
wav2vec_local = _local("wav2vec")
wav2vec_url = _url("wav2vec")

vq_wav2vec = _named("vq_wav2vec")
vq_wav2vec_gumbel = _named("vq_wav2vec_gumbel")
vq_wav2vec_kmeans = _named("vq_wav2vec_kmeans")
vq_wav2vec_mini = _named("vq_wav2vec_mini")
vq_wav2vec_local = _local("vq_wav2vec")
vq_wav2vec_url = _url("vq_wav2vec")

wav2vec2 = _named("wav2vec2")
wav2vec2_base_960 = _named("wav2vec2_base_960")
wav2vec2_large_960 = _named("wav2vec2_large_960")
wav2vec2_large_ll60k = _named("wav2vec2_large_ll60k")
wav2vec2_large_lv60_cv_swbd_fsh = _named("wav2vec2_large_lv60_cv_swbd_fsh")
xlsr_53 = _named("xlsr_53")
xls_r_300m = _named("xls_r_300m")
xls_r_1b = _named("xls_r_1b")
xls_r_2b = _named("xls_r_2b")
wav2vec2_mini = _named("wav2vec2_mini")
wav2vec2_local = _local("wav2vec2")
wav2vec2_url = _url("wav2vec2")

hubert = _named("hubert")
hubert_base = _named("hubert_base")
hubert_large = _named("hubert_large")
hubert_local = _local("hubert")
hubert_url = _url("hubert")

wavlm_base = _named("wavlm_base")
wavlm = _named("wavlm")
wavlm_base_plus = _named("wavlm_base_plus")
wavlm_large = _named("wavlm_large")
wavlm_local = _local("wavlm")
wavlm_url = _url("wavlm")

data2vec = _named("data2vec")
data2vec_audio_base = _named("data2vec_audio_base")
data2vec_audio_large = _named("data2vec_audio_large")
data2vec_local = _local("data2vec")
data2vec_url = _url("data2vec")

fbank = _baseline("fbank")
mel = _baseline("mel")
mfcc = _baseline("mfcc")
spectrogram = _baseline("spectrogram")
