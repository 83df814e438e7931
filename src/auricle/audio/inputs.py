"""Audio inputs: files in folders, bundled speech, and waveforms of any type as checked tensors.

`speech/README.md` states origin and licence of the bundled speech.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from auricle.audio import ffmpeg
from auricle.audio.files import checked_rate, read_audio, resample
from auricle.audio.notes import gathered, non_finite_reason, note, note_scale, peak_of
from auricle.errors import AudioError, warn_deprecated

if TYPE_CHECKING:
    from numpy.typing import NDArray


SAMPLE_NAMES = ("2911-12359-0007.flac", "4051-11218-0044.flac")
"""A lower voice of 5.1 s and a higher one of 11.2 s: 16 kHz, 16 bit, mono."""


def sample_paths() -> list[Path]:
    """Paths of the bundled LibriSpeech utterances (Panayotov et al. 2015, CC BY 4.0)."""
    speech = resources.files("auricle.audio") / "speech"
    return [Path(str(speech / name)) for name in SAMPLE_NAMES]


AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc"}
    | {".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"}
)
"""Lower-case suffixes of audio files for `list_audio_files`; `read_audio` inspects the contents."""

OTHER_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xml", ".json"}
    | {".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini", ".log", ".cfg", ".lab"}
    | {".textgrid", ".ctm", ".stm", ".rttm", ".trn", ".trans", ".srt", ".vtt", ".eaf"}
    | {".phn", ".wrd", ".align", ".mlf", ".uem", ".scp", ".ark", ".lst", ".list", ".npy"}
    | {".npz", ".pt", ".pth", ".pkl", ".h5", ".hdf5", ".parquet", ".arrow", ".safetensors"}
    | {".jpg", ".jpeg", ".png", ".gif", ".svg", ".bmp", ".webp", ".gz", ".tgz", ".zip"}
    | {".bz2", ".xz", ".7z", ".zst", ".py", ".sh", ".pl", ".ipynb", ".db"}
    | {".sqlite", ".bak", ".lock", ".md5", ".sha1", ".sha256", ".tmp", ".part", ".dtd"}
    | {".xsd", ".css", ".js"}
)
"""Suffixes of common files that are not audio; unknown suffixes are reported."""

MAX_KINDS_SAID = 5

AnyPath = TypeVar("AnyPath", bound=PurePath)


def audio_suffixes() -> frozenset[str]:
    """Suffixes of the formats that can be read here; more if FFmpeg is installed."""
    return AUDIO_SUFFIXES | ffmpeg.FOREIGN_SUFFIXES if ffmpeg.is_installed() else AUDIO_SUFFIXES


def list_audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """List audio files below a folder, recursively, by suffix (`audio_suffixes`, any case), sorted.

    Hidden names are skipped, and links to folders are not followed. A log message counts files that
    were skipped.

    Raises:
        AudioError: The folder does not exist, is not a folder or cannot be listed.
    """
    found = []

    def refuse(error: OSError) -> None:
        raise AudioError(f"cannot list {folder}: {error.strerror}; pass a folder") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(
        choose_audio(found, str(folder)),
        key=lambda path: path.parts,  # the order of paths, computed once per path
    )


def choose_audio(paths: Iterable[AnyPath], where: str) -> list[AnyPath]:
    """Select the paths with a suffix of audio; skipped paths that may be audio are logged.

    A video is skipped if an audio file of the same name is next to it.
    """
    native: list[AnyPath] = []
    others: list[tuple[str, AnyPath]] = []
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            native.append(path)
        elif suffix and suffix not in OTHER_SUFFIXES:
            others.append((suffix, path))
    stems = {path.with_suffix("") for path in native} if others else set()
    is_installed = ffmpeg.is_installed()
    passed: dict[str, Counter[str]] = {}
    chosen = native
    for suffix, path in others:
        if suffix == ".tar":
            reason = "archives beside audio are read only where they are named"
        elif suffix not in ffmpeg.FOREIGN_SUFFIXES:
            reason = "these are no audio that we know"
        elif path.with_suffix("") in stems:
            reason = "audio of the same name lies beside these"
        elif not is_installed:
            reason = f"libsndfile does not read these; {ffmpeg.INSTALL}"
        else:
            chosen.append(path)
            continue
        passed.setdefault(reason, Counter())[suffix] += 1
    for reason, counts in passed.items():
        kinds = [f"{count} {suffix}" for suffix, count in counts.most_common(MAX_KINDS_SAID)]
        kinds += ["..."] * (len(counts) > len(kinds))
        note(
            f"passed over in {where}: {reason}",
            f"{where}: passed over {counts.total()} files ({', '.join(kinds)}): {reason}",
        )
    return chosen


Waveform: TypeAlias = (
    "Tensor | NDArray[np.floating[Any]] | str | os.PathLike[str]"
    " | tuple[Tensor | NDArray[np.floating[Any]], float]"
)
"""A 1-D float tensor or array at the encoder's rate, a path, or a `(samples, sample_rate)` pair."""

FULL_SCALES = {"uint8": "(x - 128) / 128", "int8": "x / 128", "int32": "x / 2147483648"}
"""Scaling of integer audio to [-1, 1) by dtype; the default is that of 16 bits."""


def as_waveforms(
    inputs: Sequence[Waveform],
    *,
    sample_rate: int,
    min_samples: int,
    max_samples: int | None = None,
    pad_short: bool = False,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Validate a list of waveforms and convert them to float32 tensors.

    Tensors, and pairs at the right rate, stay attached to autograd; samples to be resampled are
    detached and resampled on the CPU. A float32 waveform on the device is not copied.

    Args:
        inputs: List or tuple of waveforms. A 1-D float tensor or array is assumed to have
            `sample_rate`; files and `(samples, sample_rate)` pairs are resampled to it.
        sample_rate: Rate of the results in Hz.
        min_samples: Minimum length in samples.
        max_samples: Maximum length in samples; None for no limit.
        pad_short: Append zeros up to `min_samples` to shorter waveforms, instead of raising an
            error. An empty waveform is an error in both cases.
        device: Device of the results.

    Returns:
        Tensors (S,), float32, in the order of `inputs`; an empty list for an empty list.

    Raises:
        AudioError: `inputs` is not a list; a waveform is empty, too short or long, not 1-D, not
            floating point, or holds NaN or infinity; a file cannot be decoded; a rate is not
            plausible. The message names the index of the waveform.
    """
    _check_list(inputs)
    waveforms = []
    with gathered() as notes:
        for index, item in enumerate(inputs):
            try:
                waveform = _as_samples(item, sample_rate, f"waveform {index}")
                num_samples = len(waveform)
                if num_samples < min_samples:
                    if not pad_short:
                        raise AudioError(
                            f"it has {num_samples} samples, but at least {min_samples} are needed "
                            f"at {sample_rate} Hz: leave it out, or pass pad_short=True to "
                            "append zeros"
                        )
                    waveform = torch.nn.functional.pad(waveform, (0, min_samples - num_samples))
                if max_samples is not None and num_samples > max_samples:
                    raise AudioError(
                        f"it has {num_samples} samples, but the encoder takes {max_samples} "
                        f"({max_samples / sample_rate:g} s) at most, as its authors' code does: "
                        "cut it, or encode it in windows of that length (auricle.encode_windows, "
                        "on the command line --window), which changes every frame a little"
                    )
            except AudioError as error:
                raise AudioError(f"waveform {index}: {error}") from error
            waveforms.append(waveform.to(device))
    notes.say()
    return waveforms


def checked_pad_short(pad_short: bool, short: str | None) -> bool:
    """`pad_short`, or what the deprecated argument `short` says in its place.

    Raises:
        AudioError: `pad_short` is no bool, `short` is neither `"error"` nor `"pad"`, or both are
            given.
    """
    if not isinstance(pad_short, bool):
        raise AudioError(f"pad_short is {pad_short!r}: pass True to pad short waveforms, or False")
    if short is None:
        return pad_short
    if pad_short:
        raise AudioError(f"got pad_short=True and short={short!r}: leave out short")
    if short not in ("error", "pad"):
        raise AudioError(f"short is {short!r}, expected 'error' or 'pad'")
    warn_deprecated(f"short={short!r} is deprecated: pass pad_short={short == 'pad'}")
    return short == "pad"


def _check_list(inputs: object) -> None:
    """Raise AudioError unless `inputs` is a list of waveforms, with advice."""
    if isinstance(inputs, tuple) and len(inputs) == 2 and _is_number(inputs[1]):
        raise AudioError("got one (samples, sample_rate) pair: pass a list, [(samples, rate)]")
    if isinstance(inputs, list | tuple):
        return
    if isinstance(inputs, Tensor | np.ndarray) and inputs.ndim > 1:
        raise AudioError(
            f"got one {_kind(inputs)} of shape {tuple(inputs.shape)}: pass a list of unpadded 1-D "
            "waveforms, [wav1, wav2], one for each row without its padding"
        )
    if isinstance(inputs, Tensor | np.ndarray | str | os.PathLike):
        raise AudioError(f"got one {_kind(inputs)} that is not in a list: pass a list, [wav]")
    raise AudioError(
        f"got {_kind(inputs)}, expected a list of waveforms: pass a list, [wav1, wav2]"
    )


def _as_samples(item: object, sample_rate: int, name: str) -> Tensor:
    """Convert one item to a finite, non-empty float32 tensor (S,) at `sample_rate`."""
    if isinstance(item, Tensor | np.ndarray):
        return _as_float32(item, name)
    if isinstance(item, str | os.PathLike):
        return read_audio(Path(item), sample_rate=sample_rate)
    if isinstance(item, tuple) and len(item) == 2:
        return _from_pair(item[0], item[1], sample_rate, name)
    advice = "pass a 1-D float tensor or array, a path, or a (samples, sample_rate) pair"
    if isinstance(item, list):
        advice = "pass numbers as torch.tensor(samples), a pair as a tuple (samples, sample_rate)"
    raise AudioError(f"got {_kind(item)}: {advice}")


def _from_pair(samples: object, rate: object, sample_rate: int, name: str) -> Tensor:
    if not isinstance(samples, Tensor | np.ndarray):
        advice = "pass samples first, then the rate: (samples, sample_rate)"
        if isinstance(samples, str | os.PathLike):
            advice = "pass the path alone, a file knows its own rate"
        raise AudioError(f"got a pair that begins with {_kind(samples)}: {advice}")
    hertz = checked_rate(rate)
    waveform = _as_float32(samples, name)
    if hertz == sample_rate:
        return waveform
    source = waveform.detach().cpu().numpy()
    resampled = resample(source, hertz, sample_rate)
    if len(resampled) == 0:
        raise AudioError(
            f"{len(source)} sample(s) at {rate} Hz are less than one at {sample_rate} Hz: "
            "leave it out"
        )
    return torch.from_numpy(resampled)


def _as_float32(samples: Tensor | NDArray[Any], name: str) -> Tensor:
    """Convert a float tensor or array to a finite, non-empty float32 tensor (S,).

    `name` stands for it in the warning about unscaled samples.
    """
    dtype = str(samples.dtype).removeprefix("torch.")
    if isinstance(samples, Tensor):
        if samples.is_meta:
            raise AudioError("it is on the meta device, which holds no samples: pass real ones")
        is_floating = samples.is_floating_point()
    else:
        is_floating = samples.dtype.kind == "f"
    if not is_floating:
        if "int" in dtype:
            scale = FULL_SCALES.get(dtype, "x / 32768 for 16-bit audio")
            raise AudioError(f"got {dtype} samples, expected float ones in [-1, 1]: pass {scale}")
        raise AudioError(f"got {dtype} samples, expected float ones in [-1, 1]: convert them")
    if samples.ndim != 1:
        raise AudioError(f"got shape {tuple(samples.shape)}, {_shape_advice(samples.shape)}")
    if len(samples) == 0:
        raise AudioError("it is empty (0 samples): leave it out")
    waveform = samples if isinstance(samples, Tensor) else _from_array(samples)
    waveform = waveform.to(torch.float32)
    peak = peak_of(waveform)
    if reason := non_finite_reason(waveform, peak):
        raise AudioError(reason)
    note_scale(name, peak)
    return waveform


def _from_array(array: NDArray[Any]) -> Tensor:
    """Tensor that shares the memory of the array if torch can; long doubles become float64."""
    is_long = array.dtype.itemsize > np.dtype(np.float64).itemsize
    native = np.dtype(np.float64) if is_long else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # overflow becomes infinite, which is refused
        return torch.from_numpy(np.require(np.asarray(array), native, ["C", "W"]))


def _shape_advice(shape: Sequence[int]) -> str:
    if len(shape) != 2:
        return "expected a 1-D waveform: pass each waveform as an item of its own"
    axis = 0 if shape[0] <= shape[1] else 1
    one = "wav[0]" if axis == 0 else "wav[:, 0]"
    if shape[axis] == 1:
        return f"expected a 1-D waveform: pass {one}"
    return (
        f"expected a 1-D waveform: pass one channel, {one}, or their mean, wav.mean({axis}); of a "
        "batch, pass each row without its padding as an item of its own"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, str | os.PathLike):
        return f"path {os.fspath(value)!r}"
    if isinstance(value, list | tuple):
        kinds = sorted({type(element).__name__ for element in value})
        return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds) or 'empty'})"
    return "None" if value is None else f"a value of type {type(value).__name__}"
