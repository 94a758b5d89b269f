"""A real PortAudio input stream: a recording played into a PulseAudio null sink whose monitor is the microphone."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.conftest import ROOT

pytestmark = pytest.mark.microphone
PROGRAMS = ("pulseaudio", "paplay", "pactl", "parec")


def portaudio_is_here():
    return subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True).returncode == 0


@pytest.fixture
def virtual_microphone(tmp_path):
    """Environment of a session whose default input is the monitor of the null sink `vmic`."""
    if not portaudio_is_here() or not all(shutil.which(p) for p in PROGRAMS):
        pytest.skip("needs libportaudio2, libasound2-plugins, pulseaudio and pulseaudio-utils")
    home = tmp_path / "home"
    runtime = home / "xdg"
    runtime.mkdir(parents=True, mode=0o700)
    (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    environment = os.environ | {
        "XDG_RUNTIME_DIR": str(runtime),
        "PULSE_RUNTIME_PATH": str(runtime / "pulse"),
        # The program keeps its weights where this user has them, though HOME is another.
        "ASSISTANT_CACHE": os.environ.get("ASSISTANT_CACHE") or str(Path.home() / ".cache/listening-assistant"),
        "HOME": str(home),
    }
    sink = "module-null-sink sink_name=vmic rate=16000 channels=1"
    command = ["pulseaudio", "-n", "--daemonize=yes", "--exit-idle-time=-1", "--use-pid-file=yes"]
    started = subprocess.run(
        [*command, "-L", "module-native-protocol-unix", "-L", sink], env=environment, capture_output=True, text=True
    )
    if started.returncode:
        pytest.skip(f"PulseAudio does not start here: {started.stderr.strip()[:200]}")
    yield environment
    subprocess.run(["pulseaudio", "--kill"], env=environment, capture_output=True)


def as_microphone_file(tmp_path):
    """A saying between pauses, as the sink wants it: 16 kHz mono PCM16."""
    wave, rate = soundfile.read(ROOT / "examples/say-your-name.wav", dtype="float32")
    wave = soxr.resample(wave, rate, 16_000)
    pause = np.zeros(16_000, np.float32)
    path = tmp_path / "saying.wav"
    soundfile.write(path, np.concatenate((pause, wave, pause, pause)), 16_000, subtype="PCM_16")
    return path


def listen(environment, *arguments):
    command = [sys.executable, "-m", "assistant", "listen", "--json", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def events_until(process, name, seconds):
    """Events of the program up to the first one of that name."""
    found, deadline = [], time.monotonic() + seconds
    for line in process.stdout:
        found.append(json.loads(line))
        if found[-1]["event"] == name or time.monotonic() > deadline:
            break
    return found


@pytest.mark.weights
@pytest.mark.slow
def test_a_voice_at_a_real_input_stream_is_answered(virtual_microphone, tmp_path):
    saying = as_microphone_file(tmp_path)
    for _attempt in range(2):  # under heavy load a first recording can come out silent
        process = listen(virtual_microphone, "--for", "120", "--profile", "captions")
        assert events_until(process, "listening", 60)[-1]["event"] == "listening"
        subprocess.run(["paplay", "--device=vmic", str(saying)], env=virtual_microphone, check=True)
        events = events_until(process, "response", 60)
        process.terminate()
        rest, errors = process.communicate(timeout=30)
        if events and events[-1]["event"] == "response":
            break
    kinds = [event["event"] for event in events if event["event"] != "token"]
    assert kinds == ["window_opened", "window_closed", "turn_started", "response"], errors
    closed = next(event for event in events if event["event"] == "window_closed")
    assert closed["kind"] == "speech"
    assert closed["reason"] == "silence"
    assert 3.0 < closed["duration_s"] < 7.0
    assert closed["level_dbfs"] > -50
    assert events[-1]["text"]
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
    assert "ALSA" not in errors


def test_devices_lists_the_virtual_microphone(virtual_microphone):
    result = subprocess.run(
        [sys.executable, "-m", "assistant", "devices", "--json"], env=virtual_microphone, capture_output=True, text=True
    )
    devices = [json.loads(line) for line in result.stdout.splitlines()]
    assert any(device["default"] for device in devices)
    assert not result.stderr


def test_a_device_that_does_not_exist_is_named_with_those_that_do(virtual_microphone):
    command = [sys.executable, "-m", "assistant", "listen", "--input", "kazoo"]
    result = subprocess.run(command, env=virtual_microphone, capture_output=True, text=True)
    assert result.returncode == 1
    assert "no input device 'kazoo'; there are: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
