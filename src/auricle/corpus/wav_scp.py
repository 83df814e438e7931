"""Kaldi's wav.scp: audio files, also by commands that only decode one; no command is ever run."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from auricle.audio.recordings import AudioHeader
from auricle.corpus.manifests import Row, RowError, numbered_lines
from auricle.corpus.utterance import Problem
from auricle.errors import AudioError

SCRIPT_NAME = "wav.scp"

ARCHIVE_PLACE = re.compile(r".*:\d+(\[[\d:,]*\])?")

REMEDY = "run it once, and name its file"

SHELL = re.compile(r"[`$;&<>()*?\n]|\|\|")
"""Characters that a shell would act on; a file whose name holds any has to be named itself."""

QUIET = re.compile(r"\s2>\s*/dev/null(?=\s|$)")

STANDARD_STREAMS = frozenset({"-", "/dev/stdin", "/dev/stdout", "pipe:", "pipe:0", "pipe:1"})

HEADED_TYPES = frozenset(
    {"wav", "wavpcm", "wv", "flac", "aiff", "aif", "au", "sph", "nist", "w64", "rf64", "caf"}
)
"""Types of files, as commands name them, that carry their rate."""

SOX_ENCODINGS = frozenset({"signed", "signed-integer", "float", "floating-point"})
PCM_CODECS = frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "flac"})

RATE = re.compile(r"(\d+(?:\.\d+)?)(k?)")


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """A file that a command decodes.

    Attributes:
        path: The file.
        channel: The one channel that comes out, counted from 0; None for all.
        sample_rate: Rate that the command converts to, in Hz; None to leave it.
        num_channels: Number of channels that it converts to; None to leave it.
    """

    path: str
    channel: int | None = None
    sample_rate: int | None = None
    num_channels: int | None = None

    @property
    def needs_header(self) -> bool:
        """True if only the header shows that the command leaves the audio unchanged."""
        return self.sample_rate is not None or self.num_channels is not None

    def change(self, header: AudioHeader) -> str | None:
        """Change that the command would make to a file with this header; None for none."""
        if self.sample_rate not in (None, header.sample_rate):
            return f"the rate, from {header.sample_rate} to {self.sample_rate} Hz"
        channels = 1 if self.channel is not None else header.num_channels
        if self.num_channels not in (None, channels):
            return f"the number of channels, from {channels} to {self.num_channels}"
        return None


class _RefusedError(ValueError):
    """A command that does more than decode, or is not known; the text is the reason."""


def read_wav_scp(path: str) -> dict[str, Row | Problem]:
    """The recordings of a wav.scp by id.

    Raises:
        AudioError: The file cannot be read, or an id comes twice.
    """
    recordings: dict[str, Row | Problem] = {}
    for line, text in numbered_lines(path):
        name, _, source = text.replace("\t", " ", 1).partition(" ")
        source = source.strip()
        if name in recordings:
            raise AudioError(
                f"{path}, line {line}: the id {name!r} stands there twice; give each recording "
                "an id of its own"
            )
        try:
            recordings[name] = _recording(line, name, source)
        except RowError as error:
            recordings[name] = Problem(
                manifest=path, line=line, id=name, source=source, reason=str(error)
            )
    return recordings


def _recording(line: int, name: str, source: str) -> Row:
    """The file that a wav.scp's text stands for.

    Raises:
        RowError: It stands for none.
    """
    if not source:
        raise RowError("there is no path after the id")
    if source.endswith("|"):
        return _decoded_row(line, name, source)
    if source.startswith("|"):
        raise RowError(f"got the command {source!r}; commands are never run: name a file")
    if source == "-":
        raise RowError("got '-', which stands for standard input: name a file")
    if ARCHIVE_PLACE.fullmatch(source):
        raise RowError(
            f"got {source!r}, a place in an archive: unpack it to files with Kaldi's wav-copy, "
            "and name those"
        )
    return Row(line=line, path=source, id=name)


def read_command(text: str) -> DecodedFile | str:
    """The file that one of Kaldi's read pipes (`flac -c -d -s a.flac |`) decodes, or why not.

    Known are `flac`, `sox`, `sph2pipe`, `ffmpeg`, `cat` and `wav-copy`, also one after the other,
    with the options that leave the audio as it is. Lossy files and those of more than 16 bits are
    read with all their bits, which a command that writes 16 bits would round.
    """
    command = QUIET.sub(" ", text.strip().removesuffix("|")).strip()
    if match := SHELL.search(command):
        return f"{match.group()!r} is for a shell, and none is started"
    found: DecodedFile | None = None
    try:
        for stage in command.split("|"):
            words = shlex.split(stage)
            name = PurePosixPath(words[0]).name if words else ""
            if name not in READERS:
                raise _RefusedError(f"{name or 'nothing'!r} is none of {', '.join(READERS)}")
            step = READERS[name](words[1:])
            found = _after(found, step)
    except ValueError as error:
        return str(error)
    if found is None or found.path in STANDARD_STREAMS:
        return "it names no file"
    return found


def _decoded_row(line: int, name: str, command: str) -> Row:
    """The row of a file that a command decodes.

    Raises:
        RowError: The command is not known to only decode a file.
    """
    found = read_command(command)
    if isinstance(found, str):
        raise RowError(
            f"got the command {command!r}; commands are never run, and this one is not known to "
            f"only decode a file ({found}): {REMEDY}"
        )
    row = Row(line=line, path=found.path, id=name, channel=found.channel)
    if found.needs_header:
        row.complete = functools.partial(_check_change, command, found)
    return row


def _check_change(command: str, found: DecodedFile, header: AudioHeader | AudioError) -> None:
    """Refuse a command that would change its file; one that cannot be read fails as files do."""
    if isinstance(header, AudioHeader) and (change := found.change(header)):
        raise RowError(
            f"got the command {command!r}, which would change {change}; commands are never run: "
            f"{REMEDY}"
        )


def _after(first: DecodedFile | None, second: DecodedFile) -> DecodedFile:
    """Two commands as one, the second one fed by the first."""
    if first is None:
        return second
    if second.path not in STANDARD_STREAMS:
        raise _RefusedError(f"{second.path!r} is read instead of what comes through the pipe")
    if first.needs_header or (first.channel is not None and second.channel):
        raise _RefusedError("it changes the audio twice")
    return replace(second, path=first.path, channel=_either(first.channel, second.channel))


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _one_file(files: Sequence[str]) -> str:
    if len(files) != 1:
        raise _RefusedError(f"it reads {len(files)} files")
    return files[0]


def _flac(words: Sequence[str]) -> DecodedFile:
    long = {"--stdout": "c", "--decode": "d", "--silent": "s", "--totally-silent": "s"}
    letters = set()
    files = []
    for word in words:
        if word in long:
            letters.add(long[word])
        elif word.startswith("-") and word not in ("-", "--"):
            letters |= set(word[1:]) if not word.startswith("--") else {word}
        elif word != "--":
            files.append(word)
    if not {"c", "d"} <= letters <= {"c", "d", "s", "f"}:
        others = ", ".join(sorted(letters - {"c", "d", "s", "f"})) or "it lacks -c or -d"
        raise _RefusedError(f"of flac, -c -d -s are known, not: {others}")
    return DecodedFile(_one_file(files))


def _cat(words: Sequence[str]) -> DecodedFile:
    if any(word.startswith("-") and word != "-" for word in words):
        raise _RefusedError("cat is known without options")
    return DecodedFile(_one_file(words))


def _wav_copy(words: Sequence[str]) -> DecodedFile:
    if len(words) != 2 or words[1] not in STANDARD_STREAMS or re.match(r"(ark|scp)[:,]", words[0]):
        raise _RefusedError("of wav-copy, `wav-copy FILE -` is known")
    return DecodedFile(words[0])


def _sph2pipe(words: Sequence[str]) -> DecodedFile:
    options, files = _options(words, with_value={"-f", "-c"}, without={"-p"})
    if options.get("-f", "sph") not in {*HEADED_TYPES, "rif"}:
        raise _RefusedError(f"-f {options['-f']} has no header")
    channel = options.get("-c")
    if channel not in (None, "1", "2"):
        raise _RefusedError(f"-c {channel} is no channel")
    path = _one_file([file for file in files if file not in STANDARD_STREAMS] or files[:1])
    return DecodedFile(path, None if channel is None else int(channel) - 1)


def _sox(words: Sequence[str]) -> DecodedFile:
    with_value = {"-t", "--type", "-b", "--bits", "-e", "--encoding", "-r", "--rate", "-c"}
    with_value |= {"--channels"}
    without = {"-q", "-V", "-V0", "-V1", "-V2", "-V3", "-S", "-D", "-R", "--no-dither"}
    without |= {"--no-show-progress"}
    index = _end_of_file(words, with_value, without)
    before, files = _options(words[:index], with_value, without)
    end = index + _end_of_file(words[index:], with_value, without)
    after, outputs = _options(words[index:end], with_value, without)
    changed = [option for option in before if option not in {*without, "-t", "--type"}]
    if changed:
        raise _RefusedError(f"{changed[0]} before the file is read instead of its header")
    if _one_file(outputs) not in STANDARD_STREAMS:
        raise _RefusedError("its last file is not -")
    for options in (before, after):
        kind = options.get("-t", options.get("--type", "wav"))
        if kind not in {*HEADED_TYPES, "mp3", "ogg", "vorbis", "opus"}:
            raise _RefusedError(f"-t {kind} has no header")
    bits = after.get("-b", after.get("--bits", "16"))
    encoding = after.get("-e", after.get("--encoding", "signed-integer"))
    if bits not in ("16", "24", "32") or encoding not in SOX_ENCODINGS:
        raise _RefusedError(f"{encoding} of {bits} bits keeps less than the file may hold")
    channel = _remixed(words[end:])
    rate = after.get("-r", after.get("--rate"))
    channels = after.get("-c", after.get("--channels"))
    return DecodedFile(_one_file(files), channel, _rate(rate), _count(channels))


def _end_of_file(words: Sequence[str], with_value: set[str], without: set[str]) -> int:
    """The place after the first word that is no option."""
    index = 0
    while index < len(words):
        if words[index] in with_value:
            index += 2
        elif words[index] in without:
            index += 1
        else:
            return index + 1
    raise _RefusedError("it lacks a file")


def _remixed(effects: Sequence[str]) -> int | None:
    if not effects:
        return None
    if len(effects) == 2 and effects[0] == "remix" and effects[1] in "123456789":
        return int(effects[1]) - 1
    raise _RefusedError(f"{' '.join(effects)!r} changes the audio")


def _ffmpeg(words: Sequence[str]) -> DecodedFile:
    codec = {"-acodec", "-c:a", "-codec:a", "-codec", "-c"}
    values = {"-i", "-f", "-v", "-loglevel", "-ar", "-ac", "-ab", "-b:a", "-threads", *codec}
    flags = {"-nostdin", "-hide_banner", "-nostats", "-y", "-vn", "-sn", "-dn", "-bitexact"}
    options, outputs = _options(words, values, flags)
    if "-i" not in options or words.count("-i") > 1 or words.index("-i") > _place(words, "-f"):
        raise _RefusedError("of ffmpeg, `ffmpeg -i FILE -f wav -` is known")
    if options.get("-f") not in HEADED_TYPES:
        raise _RefusedError(f"-f {options.get('-f')} has no header")
    if _one_file(outputs) not in STANDARD_STREAMS:
        raise _RefusedError("it writes a file")
    for option in codec & options.keys():
        if options[option] not in PCM_CODECS:
            raise _RefusedError(f"{option} {options[option]} changes the audio")
    if any(0 <= _place(words, option) < words.index("-i") for option in ("-ar", "-ac", *codec)):
        raise _RefusedError("an option before -i is read instead of the file's header")
    return DecodedFile(
        options["-i"],
        sample_rate=_rate(options.get("-ar")),
        num_channels=_count(options.get("-ac")),
    )


def _place(words: Sequence[str], word: str) -> int:
    return words.index(word) if word in words else -1


def _options(
    words: Sequence[str], with_value: set[str], without: set[str]
) -> tuple[dict[str, str], list[str]]:
    """Options with their values, and the other words."""
    options: dict[str, str] = {}
    others = []
    remaining = iter(words)
    for word in remaining:
        if word in with_value:
            value = next(remaining, None)
            if value is None:
                raise _RefusedError(f"{word} lacks its value")
            if options.setdefault(word, value) != value:
                raise _RefusedError(f"{word} comes twice")
        elif word in without:
            options[word] = ""
        elif word.startswith("-") and word not in STANDARD_STREAMS:
            raise _RefusedError(f"{word} may change the audio")
        else:
            others.append(word)
    return options, others


def _rate(text: str | None) -> int | None:
    if text is None:
        return None
    match = RATE.fullmatch(text)
    if match is None:
        raise _RefusedError(f"{text!r} is no rate")
    return round(float(match.group(1)) * (1000 if match.group(2) else 1))


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise _RefusedError(f"{text!r} is no number of channels")
    return int(text)


READERS: dict[str, Callable[[Sequence[str]], DecodedFile]] = {
    "flac": _flac,
    "sox": _sox,
    "sph2pipe": _sph2pipe,
    "ffmpeg": _ffmpeg,
    "cat": _cat,
    "wav-copy": _wav_copy,
}
"""Name of a program -> parser of its arguments."""
