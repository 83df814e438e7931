"""Formats that libsndfile does not read, MP4 for example, decoded by FFmpeg or torchcodec."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO

from auricle.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOREIGN_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".aac", ".webm", ".mkv"}
    | {".mka", ".wma", ".wmv", ".asf", ".amr", ".awb", ".avi", ".flv", ".mts", ".m2ts"}
    | {".mpg", ".mpeg", ".ac3", ".eac3", ".dts", ".ape", ".wv", ".tta", ".tak", ".spx"}
    | {".ogv", ".ra", ".rm"}
)
"""Lower-case suffixes of files that only FFmpeg or torchcodec reads."""

DEMUXERS = (
    "mov,matroska,asf,amr,amrnb,amrwb,aac,avi,flv,mpegts,mpeg,ac3,eac3,dts,ape,wv,tta,tak,mpc,mpc8,"
    "dsf,rm,ogg,wav,w64,aiff,caf,au,flac"
)
"""Demuxers allowed to FFmpeg: no playlists, which refer to other files and to the network."""

INSTALL = "install ffmpeg (apt-get install ffmpeg, conda install ffmpeg) or torchcodec"

HEAD_BYTES = 192
"""Bytes that cover two packets of an MPEG transport stream."""

ASF_HEADER = b"\x30\x26\xb2\x75"
"""First four bytes of the identifier of the ASF header object."""

MAGICS = {
    b"\x1a\x45\xdf\xa3": "Matroska",
    ASF_HEADER: "ASF",
    b"#!AM": "AMR",
    b"FLV\x01": "FLV",
    b"ADIF": "AAC",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio",
    b"TTA1": "TTA",
    b"tBaK": "TAK",
    b"MPCK": "Musepack",
    b".RMF": "RealMedia",
    b"\x7f\xfe\x80\x01": "DTS",
    b"\0\0\x01\xba": "MPEG program stream",
}
MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

FLV_HEADER_BYTES = 13
FLV_TAG_BYTES = 15
"""Bytes before the first tag of FLV, and around the data of each tag."""

TOLERANCE_SECONDS = 0.25
"""Tolerance for streams shorter than their container declares: encoders add silence and round."""

BLOCK_BYTES = 1 << 20


def kind_of(head: bytes) -> str:
    """Name of the format that starts with these `HEAD_BYTES`, "" if it is left to libsndfile."""
    if head[4:8] in MP4_ATOMS:
        return "MP4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[:1] == b"\xff" and len(head) > 6 and head[1] & 0xF6 == 0xF0:
        return "AAC"
    if head[:2] == b"\x0b\x77":
        return "AC-3"
    if head[:1] == b"G" and head[188:189] == b"G":
        return "MPEG transport stream"
    return MAGICS.get(head[:4], "")


def is_installed() -> bool:
    """True if FFmpeg's program or torchcodec is available."""
    return shutil.which("ffmpeg") is not None or _has_torchcodec()


@functools.cache
def _has_torchcodec() -> bool:
    return importlib.util.find_spec("torchcodec") is not None


class ForeignRecording:
    """First audio stream of a file that libsndfile does not read.

    Every span is decoded from the start of the file, so that it equals that of a full decode.

    Args:
        stream: The file.
        name: Name of the file in messages.
        kind: Format of the container, for messages.

    Raises:
        AudioError: It cannot be decoded, or neither FFmpeg nor torchcodec is installed.
    """

    is_count = False

    def __init__(self, stream: BinaryIO, name: str, kind: str) -> None:
        self._stream = stream
        self._name = name
        if missing := _missing_bytes(stream, kind):
            raise AudioError(
                f"{name} has been cut short: its headers promise {missing} bytes more than it "
                "holds; copy or convert it again"
            )
        if second := _second_recording(stream, kind):
            raise AudioError(
                f"{name} holds several recordings, one after the other, of which FFmpeg reads only "
                f"the first: the second begins at byte {second}; divide the file there"
            )
        if not is_installed():
            raise AudioError(
                f"{name} is {kind}, which libsndfile does not read: {INSTALL}, or convert it: "
                "ffmpeg -i FILE NEW.flac"
            )
        self.num_samples: int | None = None
        blocks = self._decoded()
        self.sample_rate, self.num_channels = next(blocks)[:2]
        self._begun: Generator[tuple[int, int, NDArray[np.float32]], None, None] | None = blocks

    def blocks(self, start: int, stop: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode as `Recording.blocks`."""
        decoded, self._begun = self._begun or self._decoded(), None
        position = 0
        for _, _, block in decoded:
            wanted = block[max(0, start - position) : None if stop is None else stop - position]
            position += len(block)
            if len(wanted):
                yield wanted
            if stop is not None and position >= stop:
                return

    def close(self) -> None:
        """Terminate FFmpeg."""
        if self._begun is not None:
            self._begun.close()

    def _decoded(self) -> Generator[tuple[int, int, NDArray[np.float32]], None, None]:
        """Yield sample rate, channels and samples (S, channels); the first samples are empty."""
        program = shutil.which("ffmpeg")
        return self._by_ffmpeg(program) if program else self._by_torchcodec()

    def _by_ffmpeg(
        self, program: str
    ) -> Generator[tuple[int, int, NDArray[np.float32]], None, None]:
        import numpy as np

        with self._file() as path, tempfile.TemporaryFile() as said:
            command = [program, "-nostdin", "-v", "error", "-threads", "1"]
            command += ["-protocol_whitelist", "file"]
            command += ["-format_whitelist", DEMUXERS, "-i", f"file:{path}", "-map", "0:a:0"]
            command += ["-f", "wav", "-c:a", "pcm_f32le", "pipe:1"]
            process = subprocess.Popen(  # noqa: S603 - no shell, and a path of our own
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
            )
            output = process.stdout
            assert output is not None
            try:
                found = _read_format(output)
                if found is not None:
                    rate, channels = found
                    yield rate, channels, np.zeros((0, channels), np.float32)
                    frame = 4 * channels
                    while contents := output.read(BLOCK_BYTES // frame * frame or frame):
                        whole = len(contents) // frame * frame
                        samples = np.frombuffer(contents[:whole], "<f4").astype(np.float32)
                        yield rate, channels, samples.reshape(-1, channels)
                status = process.wait()
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                if status or lines or found is None:
                    reason = lines[-1] if lines else f"exit status {status}"
                    raise AudioError(
                        f"{self._name} cannot be decoded whole, it is damaged, has been cut short "
                        f"or holds no audio: ffmpeg says {reason!r}; copy or convert it again"
                    )
            finally:
                output.close()
                process.kill()
                process.wait()

    def _by_torchcodec(self) -> Generator[tuple[int, int, NDArray[np.float32]], None, None]:
        import numpy as np

        try:
            from torchcodec.decoders import AudioDecoder

            self._stream.seek(0)
            decoder = AudioDecoder(self._stream)
            samples = decoder.get_all_samples()
            promised = decoder.metadata.duration_seconds_from_header or 0.0
            data = np.ascontiguousarray(samples.data.numpy().T, np.float32)
        except Exception as error:  # torchcodec raises RuntimeError, ValueError and ImportError
            raise AudioError(
                f"{self._name} cannot be decoded by torchcodec: {error}; copy or convert it again"
            ) from error
        rate = int(samples.sample_rate)
        if len(data) / rate < promised - TOLERANCE_SECONDS:
            raise AudioError(
                f"{self._name} has been cut short: its header promises {promised:g} s, but only "
                f"{len(data) / rate:g} s could be decoded; copy or convert it again"
            )
        yield rate, data.shape[1], data[:0]
        yield rate, data.shape[1], data

    @contextmanager
    def _file(self) -> Iterator[str]:
        """Path of the file, or of a temporary copy of its bytes, since MP4 needs seeking."""
        path = getattr(self._stream, "name", None)
        if isinstance(self._stream, io.BufferedReader) and isinstance(path, str):
            yield os.path.abspath(path)  # noqa: PTH100 - does not resolve links
            return
        with tempfile.TemporaryDirectory(prefix="auricle-") as folder:
            copy = os.path.join(folder, "audio")  # noqa: PTH118 - text for a command
            self._stream.seek(0)
            with open(copy, "wb") as file:  # noqa: PTH123 - as above
                shutil.copyfileobj(self._stream, file)
            yield copy


def _missing_bytes(stream: BinaryIO, kind: str) -> int:
    """Bytes missing from the file by its headers, where FFmpeg reports no error."""
    num_bytes = stream.seek(0, os.SEEK_END)
    if kind == "AVI":
        stream.seek(4)
        return max(0, int.from_bytes(stream.read(4), "little") + 8 - num_bytes)
    if kind == "Matroska":
        header_end = sum(_ebml_size(stream, 4))
        start, size = _ebml_size(stream, header_end + 4)  # the segment, which is the rest
        return max(0, start + size - num_bytes)
    position = FLV_HEADER_BYTES
    while kind == "FLV" and position < num_bytes:
        stream.seek(position + 1)
        position += FLV_TAG_BYTES + int.from_bytes(stream.read(3), "big")
    return max(0, position - num_bytes) if kind == "FLV" else 0


def _second_recording(stream: BinaryIO, kind: str) -> int:
    """Start of a concatenated second file in MP4 (ISO 14496-12) or ASF; 0 if there is none.

    Both are sequences of boxes with sizes; the first box of a file occurs once.
    """
    num_bytes = stream.seek(0, os.SEEK_END)
    position = 0
    first = b""
    while kind in ("MP4", "ASF") and position + 24 <= num_bytes:
        stream.seek(position)
        head = stream.read(24)
        if kind == "MP4":
            name, size = head[4:8], int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
        else:
            name, size = head[:16], int.from_bytes(head[16:], "little")
        first = first or name
        if position and name == first and name[:4] in (b"ftyp", ASF_HEADER):
            return position
        if size < 8:  # extends to the end of the file, or is damaged
            break
        position += size
    return 0


def _ebml_size(stream: BinaryIO, position: int) -> tuple[int, int]:
    """Start and size of the contents of an element; size 0 if unknown (RFC 8794)."""
    stream.seek(position)
    head = stream.read(8)
    width = 9 - (head[0] if head else 0).bit_length()
    size = int.from_bytes(head[:width], "big") & (1 << 7 * width) - 1
    return position + width, 0 if size == (1 << 7 * width) - 1 or width > 8 else size


def _read_format(output: IO[bytes]) -> tuple[int, int] | None:
    """Rate and channels of FFmpeg's WAV output, up to its samples; None without samples."""
    head = output.read(12)
    rate = channels = 0
    while len(head) >= 8:
        head = output.read(8)
        if len(head) < 8:
            return None
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            return (rate, channels) if rate and channels else None
        contents = output.read(size + size % 2)
        if name == b"fmt ":
            channels, rate = struct.unpack("<HI", contents[2:8])
    return None
