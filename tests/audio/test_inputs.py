from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auricle.audio.files import read_audio, resample
from auricle.audio.inputs import as_waveforms, checked_pad_short
from auricle.errors import AudioError

RATE = 16_000
NAN, INF = float("nan"), float("inf")


def convert(*inputs: Any, **options: Any) -> list[torch.Tensor]:
    return as_waveforms(list(inputs), **{"sample_rate": RATE, "min_samples": 400, **options})


def speech(num_samples: int = 500, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_samples, generator=generator) - 0.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, speech().numpy(), RATE, subtype="FLOAT")
    return path


def test_every_kind_of_input_in_order(path: Path) -> None:
    wav = speech()
    kinds = [
        wav,
        wav.numpy(),
        path,
        str(path),
        (wav, RATE),
        (wav.numpy(), float(RATE)),
        (wav.double().numpy(), np.int32(RATE)),
    ]
    for waveform in convert(*kinds):
        assert torch.equal(waveform, wav)
        assert waveform.dtype == torch.float32
    order = [speech(400 + k, seed=k) for k in range(4)]
    assert all(map(torch.equal, convert(*order), order))


def test_lists_and_tuples() -> None:
    assert convert() == []
    two = (speech(seed=1), speech(seed=2))
    assert len(as_waveforms(two, sample_rate=RATE, min_samples=1)) == 2


def test_a_waveform_in_the_right_form_is_not_copied() -> None:
    wav = speech()
    assert convert(wav)[0] is wav
    array = wav.numpy()
    assert convert(array)[0].data_ptr() == wav.data_ptr()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_float_tensors(dtype: torch.dtype) -> None:
    wav = speech().to(dtype)
    (waveform,) = convert(wav)
    assert waveform.dtype == torch.float32
    assert torch.equal(waveform, wav.float())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "longdouble"])
def test_float_arrays(dtype: str) -> None:
    array = speech().numpy().astype(dtype)
    np.testing.assert_array_equal(convert(array)[0], array.astype(np.float32))


def test_arrays_of_odd_layout() -> None:
    array = np.stack([speech().numpy(), speech(seed=1).numpy()], axis=1)
    read_only = array[:, 0].copy()
    read_only.setflags(write=False)
    for odd in (array[:, 0], array[::-1, 1], array[::1, 0], read_only):
        np.testing.assert_array_equal(convert(odd)[0], odd)
    assert torch.equal(convert(torch.from_numpy(array)[:, 1])[0], torch.from_numpy(array)[:, 1])


@pytest.mark.parametrize("as_pair", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_flow_through(as_pair: bool, dtype: torch.dtype) -> None:
    wav = speech(300).to(dtype).requires_grad_()
    (waveform,) = convert((wav, RATE) if as_pair else wav, pad_short=True)
    weights = torch.arange(400.0)
    (waveform * weights).sum().backward()
    assert wav.grad is not None
    assert torch.equal(wav.grad, weights[:300].to(dtype))


@pytest.mark.parametrize("kind", ["tensor", "array", "float64", "attached"])
def test_pairs_are_resampled(kind: str) -> None:
    wav = speech(48_000)
    samples: Any = {
        "tensor": wav,
        "array": wav.numpy(),
        "float64": wav.double(),
        "attached": wav.clone().requires_grad_(),
    }[kind]
    (waveform,) = convert((samples, 48_000))
    assert waveform.shape == (RATE,)
    assert not waveform.requires_grad
    np.testing.assert_array_equal(waveform, resample(wav.numpy(), 48_000, RATE))


def test_files_are_resampled_to_the_rate_that_is_asked_for(path: Path) -> None:
    (waveform,) = convert(path, sample_rate=8_000, min_samples=1)
    assert torch.equal(waveform, read_audio(path, sample_rate=8_000))
    assert len(waveform) == 250


def test_result_lies_on_the_device() -> None:
    (waveform,) = convert(speech(), device="meta")
    assert waveform.device.type == "meta"


def test_samples_without_values_are_refused() -> None:
    with pytest.raises(AudioError, match="waveform 0: it is on the meta device"):
        convert(speech().to("meta"))


def test_short_waveforms() -> None:
    assert len(convert(speech(400))[0]) == 400
    with pytest.raises(
        AudioError, match=r"^waveform 1: it has 399 samples, but at least 400 .*pad_short=True"
    ):
        convert(speech(400), speech(399))
    with pytest.raises(AudioError, match=r"^waveform 0: it has 300 samples, but at least 400"):
        convert((speech(900), 48_000))
    wav = speech(7)
    (padded,) = convert(wav, pad_short=True)
    assert torch.equal(padded, torch.cat([wav, torch.zeros(393)]))
    long = speech(500)
    assert convert(long, pad_short=True)[0] is long


def test_the_deprecated_spelling_of_pad_short() -> None:
    for short, pad_short in (("pad", True), ("error", False)):
        with pytest.warns(DeprecationWarning, match=f"pass pad_short={pad_short}"):
            assert checked_pad_short(False, short) is pad_short
    assert checked_pad_short(True, None)
    with pytest.raises(AudioError, match="expected 'error' or 'pad'"):
        checked_pad_short(False, "cut")


@pytest.mark.parametrize("pad_short", [False, True])
@pytest.mark.parametrize("empty", [torch.zeros(0), np.zeros(0), (torch.zeros(0), 8000)], ids=repr)
def test_empty_waveforms(empty: Any, pad_short: bool) -> None:
    with pytest.raises(AudioError, match=r"^waveform 1: it is empty \(0 samples\)"):
        convert(speech(), empty, pad_short=pad_short)


@pytest.mark.parametrize("pad_short", [False, True])
def test_pair_that_resamples_to_nothing(pad_short: bool) -> None:
    with pytest.raises(AudioError, match=r"waveform 0: 1 sample.* at 48000 Hz are less than one"):
        convert((speech(1), 48_000), pad_short=pad_short)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("kind", ["tensor", "array", "pair", "other rate"])
def test_numbers_that_are_none(value: float, kind: str) -> None:
    wav = speech()
    wav[[30, 200]] = value
    item: Any = {
        "tensor": wav,
        "array": wav.numpy(),
        "pair": (wav, RATE),
        "other rate": (wav, 8000),
    }[kind]
    with pytest.raises(AudioError, match=r"^waveform 0: 2 of 500 samples .*first at sample 30:"):
        convert(item)


@pytest.mark.parametrize("value", [np.float64("1e300"), np.longdouble("1e300")], ids=repr)
def test_numbers_beyond_float32(value: np.floating[Any]) -> None:
    array = speech().numpy().astype(value.dtype)
    array[3] = value
    with pytest.raises(AudioError, match="1 of 500 samples are NaN or infinite as float32"):
        convert(array)


def test_numbers_beyond_float64() -> None:
    array = speech().numpy().astype(np.longdouble)
    array[3] = np.finfo(np.longdouble).max
    with pytest.raises(AudioError, match="1 of 500 samples are NaN or infinite as float32"):
        convert(array)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(500, dtype=torch.int16), "got int16 samples.*pass x / 32768"),
        (np.zeros(500, np.int16), "got int16 samples.*pass x / 32768"),
        (np.zeros(500, np.int32), "got int32 samples.*pass x / 2147483648"),
        (np.zeros(500, np.uint8), r"got uint8 samples.*pass \(x - 128\) / 128"),
        (torch.zeros(500, dtype=torch.int64), "got int64 samples.*32768"),
        (torch.zeros(500, dtype=torch.bool), "got bool samples.*convert them"),
        (torch.zeros(500, dtype=torch.complex64), "got complex64 samples.*convert them"),
        (np.array(["a"]), "got <U1 samples"),
        ((np.zeros(500, np.int16), RATE), "got int16 samples"),
        (torch.zeros(2, 500), r"got shape \(2, 500\).*wav\[0\], or their mean, wav.mean\(0\)"),
        (np.zeros((500, 2)), r"got shape \(500, 2\).*wav\[:, 0\], or their mean, wav.mean\(1\)"),
        (torch.zeros(1, 500), r"got shape \(1, 500\), expected a 1-D waveform: pass wav\[0\]$"),
        (torch.zeros(500, 1), r"expected a 1-D waveform: pass wav\[:, 0\]$"),
        ((torch.zeros(1, 500), 8000), r"got shape \(1, 500\)"),
        (torch.zeros(2, 2, 500), r"got shape \(2, 2, 500\).*item of its own"),
        (torch.tensor(0.5), r"got shape \(\), expected a 1-D"),
        ([0.1, 0.2], r"got a list of 2 \(float\): pass numbers as torch.tensor"),
        ([speech(), RATE], r"got a list of 2 \(Tensor, int\).*tuple \(samples, sample_rate\)"),
        (None, "got None: pass a 1-D float tensor"),
        (3, "got a value of type int: pass"),
        ({"array": 1}, "got a value of type dict: pass"),
        (b"a.wav", "got a value of type bytes: pass"),
        ((speech(),), r"got a tuple of 1 \(Tensor\)"),
        ((RATE, speech()), "begins with a value of type int: pass samples first"),
        (("a.wav", RATE), "begins with path 'a.wav': pass the path alone"),
        *[
            ((speech(), rate), "the sample rate is .*expected a number of at least")
            for rate in (0, -RATE, NAN, INF, True, None, "16000", 16, torch.tensor(RATE))
        ],
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_bad_items(item: Any, message: str) -> None:
    with pytest.raises(AudioError, match=rf"^waveform 2: .*{message}"):
        convert(speech(), speech(), item)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (speech(), r"got one tensor that is not in a list: pass a list, \[wav\]"),
        (speech().numpy(), r"got one array that is not in a list: pass a list, \[wav\]"),
        ("a.wav", r"got one path 'a.wav' that is not in a list: pass a list, \[wav\]"),
        (Path("a.wav"), r"got one path 'a.wav' that is not in a list"),
        ((speech(), RATE), r"got one \(samples, sample_rate\) pair: pass a list"),
        ((speech(), np.int64(RATE)), r"got one \(samples, sample_rate\) pair: pass a list"),
        (torch.zeros(3, 500), r"got one tensor of shape \(3, 500\): pass a list of unpadded"),
        (np.zeros((3, 500)), r"got one array of shape \(3, 500\): pass a list of unpadded"),
        (None, "got None, expected a list"),
        ({"a": speech()}, "got a value of type dict, expected a list"),
        ((speech() for _ in range(2)), "got a value of type generator, expected a list"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_a_list(inputs: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        as_waveforms(inputs, sample_rate=RATE, min_samples=1)


def test_bad_files_name_index_and_path(tmp_path: Path, path: Path) -> None:
    samples = speech().numpy().copy()
    samples[4] = NAN
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"^waveform 1: .*nan\.wav: 1 of 500.*first at sample 4"):
        convert(path, tmp_path / "nan.wav")
    with pytest.raises(AudioError, match=r"^waveform 1: cannot open .*absent\.wav: No such file"):
        convert(path, str(tmp_path / "absent.wav"))
    with pytest.raises(AudioError, match=r"^waveform 0: it has 500 samples, but at least 600"):
        convert(path, min_samples=600)
