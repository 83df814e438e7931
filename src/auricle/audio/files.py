"""Audio files: found in folders, opened, and decoded into one waveform."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import BinaryIO, TypeVar

from torch import Tensor

from auricle.audio import foreign
from auricle.audio.decoding import AudioHeader, decode_audio, stream_header
from auricle.audio.notes import note
from auricle.errors import AudioError

AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc"}
    | {".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"}
)
"""Lower-case suffixes by which `list_audio_files` tells audio; `read_audio` looks at contents."""

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
"""Suffixes that lie beside audio and are none; what has another one is counted and said."""

MAX_KINDS_SAID = 5

AnyPath = TypeVar("AnyPath", bound=PurePath)


def audio_suffixes() -> frozenset[str]:
    """Suffixes of what can be read on this machine: more of them where FFmpeg is installed."""
    return AUDIO_SUFFIXES | foreign.FOREIGN_SUFFIXES if foreign.is_installed() else AUDIO_SUFFIXES


def list_audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Audio files below a folder at any depth, by suffix (`audio_suffixes`, any case), sorted.

    Names that begin with a dot are left out, and links to folders are not followed. The list is
    empty where there are none. What is passed over is counted in a logged line.

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
        key=lambda path: path.parts,  # the order of paths, found once for each
    )


def choose_audio(paths: Iterable[AnyPath], where: str) -> list[AnyPath]:
    """Those with the suffix of audio; of the others, what may be audio is counted and said.

    A video beside audio of the same name is passed over.
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
    is_installed = foreign.is_installed()
    passed: dict[str, Counter[str]] = {}
    chosen = native
    for suffix, path in others:
        if suffix == ".tar":
            reason = "archives beside audio are read only where they are named"
        elif suffix not in foreign.FOREIGN_SUFFIXES:
            reason = "these are no audio that we know"
        elif path.with_suffix("") in stems:
            reason = "audio of the same name lies beside these"
        elif not is_installed:
            reason = f"libsndfile does not read these; {foreign.INSTALL}"
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


def read_header(path: str | os.PathLike[str]) -> AudioHeader:
    """Length, rate and channels of a file, without decoding it.

    Raises:
        AudioError: The file is missing, is no audio, holds no samples or has been cut short.
    """
    with open_audio_bytes(path) as stream:
        return stream_header(stream, str(path))


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 16_000,
    channel: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    overshoot_seconds: float = 0.0,
) -> Tensor:
    """Decode a file, or a part of it, into one waveform.

    WAV, FLAC, OGG (Vorbis, Opus), MP3 and whatever else libsndfile knows, at any rate and with any
    number of channels; MP4, Matroska and the like where FFmpeg or torchcodec is installed. Integer
    samples are scaled to [-1, 1); float samples are taken as they are. Memory grows with the mono
    waveform, not with the number of channels.

    Args:
        path: The file; its contents, not its name, decide the format.
        sample_rate: Rate of the result in Hz; another rate in the file is resampled to it.
        channel: Index of the channel to take, from 0; None for the mean of all channels.
        start_seconds: Where to begin.
        duration_seconds: How much to read; None for all up to the end. Both ends are rounded to
            the file's nearest sample.
        overshoot_seconds: By how much the part may end behind the file's end, where it is then
            cut off: durations in lists are rounded.

    Returns:
        Tensor (S,), float32, on the CPU. A part is resampled alone, without its surroundings.

    Raises:
        AudioError: The file is missing, unreadable, no audio, empty, cut short or damaged, or holds
            NaN or infinity; there is no such channel; the part is not within the file.
    """
    with open_audio_bytes(path) as stream:
        return decode_audio(
            stream,
            str(path),
            sample_rate=sample_rate,
            channel=channel,
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            overshoot_seconds=overshoot_seconds,
        )


def open_audio_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """The file as a stream of bytes, once it is known to be a regular file with contents.

    Raises:
        AudioError: It is missing, empty, no regular file, or raw samples.
    """
    path = Path(path)
    if path.suffix.lower() == ".raw":
        raise AudioError(
            f"{path}: raw samples carry no header, so nothing is known of them: "
            "pass (samples, sample_rate) instead"
        )
    try:
        status = path.stat()
    except ValueError as error:  # a null character in the name
        raise AudioError(f"cannot open {str(path)!r}: {error}; check the path") from error
    except OSError as error:
        raise _unopened(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder, expected an audio file: pass the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is a pipe or a device: write it to a regular file first")
    if status.st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes): copy or record it again")
    try:
        return path.open("rb")
    except OSError as error:
        raise _unopened(path, error) from error


def _unopened(path: Path, error: OSError) -> AudioError:
    return AudioError(
        f"cannot open {path}: {error.strerror}; check the path and that you may read it"
    )
