from __future__ import annotations

import pytest

from auricle.audio.recordings import AudioHeader
from auricle.corpus.wav_scp import DecodedFile, read_command

FLAC = "corpus/84-1.flac"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flac -c -d -s corpus/84-1.flac |", DecodedFile(FLAC)),
        ("/usr/bin/flac -cds corpus/84-1.flac|", DecodedFile(FLAC)),
        ("flac --decode --stdout --silent 'a b.flac' |", DecodedFile("a b.flac")),
        ("cat corpus/84-1.flac |", DecodedFile(FLAC)),
        ("wav-copy a.wav - |", DecodedFile("a.wav")),
        ("sox a.wav -t wav - |", DecodedFile("a.wav")),
        (
            "sox -q -t wav a.wav -b 16 -e signed-integer -t wav - 2>/dev/null |",
            DecodedFile("a.wav"),
        ),
        ("sox a.wav -t wav - remix 2 |", DecodedFile("a.wav", channel=1)),
        (
            "sox a.wav -r 16k -c 1 -t wav - |",
            DecodedFile("a.wav", sample_rate=16_000, num_channels=1),
        ),
        ("sph2pipe -f wav -p -c 1 a.sph |", DecodedFile("a.sph", channel=0)),
        ("../tools/sph2pipe_v2.5/sph2pipe -f wav a.sph |", DecodedFile("a.sph")),
        ("ffmpeg -v 8 -nostdin -i a.m4a -f wav -acodec pcm_s16le - |", DecodedFile("a.m4a")),
        ("ffmpeg -i a.mp3 -f wav -ar 16000 pipe:1 |", DecodedFile("a.mp3", sample_rate=16_000)),
        ("flac -cds a.flac | sox -t wav - -t wav - remix 1 |", DecodedFile("a.flac", channel=0)),
        (
            "sph2pipe -f wav -p -c 2 a.sph | sox -t wav - -c 1 -t wav - |",
            DecodedFile("a.sph", channel=1, num_channels=1),
        ),
    ],
)
def test_commands_that_decode_a_file(text: str, expected: DecodedFile) -> None:
    assert read_command(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rm -rf a |", "'rm' is none of"),
        ("|", "'nothing' is none of"),
        ("flac -c -d -s $(ls) |", "'$' is for a shell"),
        ("flac -c -d -s a.flac > b |", "'>' is for a shell"),
        ("flac -c -d -s a.flac && touch x |", "'&' is for a shell"),
        ("flac -c -d -s 'a.flac |", "No closing quotation"),
        ("flac -c -d a.flac b.flac |", "it reads 2 files"),
        ("flac -c -d --skip=1:00 a.flac |", "not: --skip=1:00"),
        ("flac -s a.flac |", "it lacks -c or -d"),
        ("flac -c -d -s |", "it reads 0 files"),
        ("flac -c -d - |", "it names no file"),
        ("cat a.wav b.wav |", "it reads 2 files"),
        ("cat -n a.wav |", "cat is known without options"),
        ("wav-copy scp:a.scp - |", "`wav-copy FILE -` is known"),
        ("sox -v 0.5 a.wav -t wav - |", "-v may change the audio"),
        ("sox a.wav -t wav - speed 1.1 |", "'speed 1.1' changes the audio"),
        ("sox a.wav -t wav - remix 1-2 |", "'remix 1-2' changes the audio"),
        ("sox -r 8000 a.wav -t wav - |", "-r before the file"),
        ("sox a.wav -t raw - |", "-t raw has no header"),
        ("sox a.wav -b 8 -t wav - |", "8 bits keeps less"),
        ("sox a.wav b.wav -t wav - |", "its last file is not -"),
        ("sox -m a.wav b.wav -t wav - |", "-m may change the audio"),
        ("sph2pipe -f wav -t 1:2 a.sph |", "-t may change the audio"),
        ("sph2pipe -f raw a.sph |", "-f raw has no header"),
        ("sph2pipe -c 3 a.sph |", "-c 3 is no channel"),
        ("ffmpeg -ss 1 -i a.wav -f wav - |", "-ss may change the audio"),
        ("ffmpeg -i a.wav -i b.wav -f wav - |", "-i comes twice"),
        ("ffmpeg -i a.wav -f s16le - |", "-f s16le has no header"),
        ("ffmpeg -f s16le -ar 8000 -i a.raw -f wav - |", "-f comes twice"),
        ("ffmpeg -ar 8000 -i a.wav -f wav - |", "before -i"),
        ("ffmpeg -i a.wav -af volume=2 -f wav - |", "-af may change the audio"),
        ("ffmpeg -i a.wav -f wav -acodec pcm_u8 - |", "pcm_u8 changes the audio"),
        ("ffmpeg -i a.wav b.wav |", "`ffmpeg -i FILE -f wav -` is known"),
        ("cat a.wav | cat b.wav |", "'b.wav' is read instead"),
        ("sox a.wav -r 8k -t wav - | sox - -t wav - |", "it changes the audio twice"),
        ("sox a.wav -t wav - remix 1 | sox - -t wav - remix 2 |", "it changes the audio twice"),
    ],
)
def test_commands_that_are_refused(text: str, reason: str) -> None:
    found = read_command(text)
    assert isinstance(found, str)
    assert reason in found


def test_what_a_command_would_change() -> None:
    header = AudioHeader(num_samples=9, sample_rate=16_000, num_channels=2)
    assert DecodedFile("a", sample_rate=16_000, num_channels=2).change(header) is None
    assert DecodedFile("a", channel=1, num_channels=1).change(header) is None
    assert DecodedFile("a", sample_rate=8_000).change(header) == "the rate, from 16000 to 8000 Hz"
    assert DecodedFile("a", num_channels=1).change(header) == "the number of channels, from 2 to 1"
