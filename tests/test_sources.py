"""Sound files and standard input, good and bad."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from assistant.audio.source import FileSource, StdinSource, read_wave
from assistant.errors import UserError
from assistant.records import FRAME_SAMPLES
from tests.conftest import tone


def frames(source):
    return list(source.frames(lambda: False))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channel_count_becomes_the_same_second_of_16_khz_mono(tmp_path, rate, channels):
    at = np.arange(rate) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * at)
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([wave] * channels, 1), rate)
    heard = np.concatenate(frames(FileSource(path)))
    assert abs(len(heard) - 16_000) <= FRAME_SAMPLES
    spectrum = np.abs(np.fft.rfft(heard[:16_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 2
    assert abs(float(np.abs(heard[2000:14_000]).max()) - 0.5) < 0.02


def test_channel_zero_is_heard_as_in_the_reference(tmp_path):
    path = tmp_path / "left.wav"
    soundfile.write(path, np.stack([tone(1), 0 * tone(1)], 1), 16_000)
    assert np.abs(np.concatenate(frames(FileSource(path)))).max() > 0.19


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_common_formats_are_read(tmp_path, suffix):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(1), 16_000)
    assert len(frames(FileSource(path))) >= 33


def bad(path, write):
    write(path)
    with pytest.raises(UserError) as raised:
        frames(FileSource(path))
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in bad(tmp_path / "none.wav", lambda p: None)


def test_an_empty_file_is_named(tmp_path):
    assert "is empty" in bad(tmp_path / "empty.wav", lambda p: p.write_bytes(b""))


def test_a_zero_length_wav_is_named(tmp_path):
    assert "holds no sound" in bad(tmp_path / "zero.wav", lambda p: soundfile.write(p, np.zeros(0), 16_000))


def test_a_text_file_is_no_sound(tmp_path):
    assert "not a sound file" in bad(tmp_path / "notes.wav", lambda p: p.write_text("hello " * 100))


def test_a_folder_is_no_sound(tmp_path):
    assert "is a folder" in bad(tmp_path / "sounds", lambda p: p.mkdir())


def test_a_truncated_wav_gives_what_is_there(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, tone(2), 16_000)
    path.write_bytes(path.read_bytes()[:32_044])
    assert 30 <= len(frames(FileSource(path))) <= 35


def test_hours_of_sound_are_read_only_as_far_as_needed(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(120):
            file.write(np.zeros(8_000 * 30, np.int16))
    assert len(read_wave(path)) <= 30.1 * 16_000


def test_standard_input_takes_a_wav_and_raw_pcm():
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1), 16_000, format="WAV")
    wav = np.concatenate(frames(StdinSource(io.BytesIO(buffer.getvalue()))))
    pcm = (tone(1) * 32_768).astype("<i2").tobytes()
    raw = np.concatenate(frames(StdinSource(io.BytesIO(pcm))))
    assert np.allclose(wav[:16_000], raw[:16_000], atol=1e-3)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_recorder_that_never_ends_is_heard_as_it_speaks(rate, channels):
    """As `arecord` writes: a header whose length nobody knows, then sound while there is any."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as ours, os.fdopen(writing, "wb", buffering=0) as theirs:
        wave = (0.2 * np.sin(2 * np.pi * 440 * np.arange(rate // 4) / rate) * 32_767).astype("<i2")
        sound = np.repeat(wave[:, None], channels, axis=1)
        sizes = (16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
        header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0x80000024, b"WAVE", b"fmt ", *sizes)
        header += struct.pack("<4sI", b"data", 0x80000000)
        theirs.write(header[:5])
        theirs.write(header[5:] + sound[: rate // 10].tobytes()[:-1])  # a pipe may break anywhere
        heard = StdinSource(ours).frames(lambda: False)
        first = next(heard)
        assert np.abs(first).max() > 0.1
        theirs.write(sound[: rate // 10].tobytes()[-1:] + sound[rate // 10 :].tobytes())
        theirs.close()
        assert len(np.concatenate([first, *heard])) == pytest.approx(4_000, abs=480)


def test_a_piped_wav_of_another_kind_is_read_to_its_end():
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1), 16_000, format="WAV", subtype="FLOAT")
    assert np.allclose(np.concatenate(frames(StdinSource(io.BytesIO(buffer.getvalue()))))[:16_000], tone(1), atol=1e-4)


def test_empty_standard_input_says_so():
    with pytest.raises(UserError, match="standard input is empty"):
        frames(StdinSource(io.BytesIO(b"")))
