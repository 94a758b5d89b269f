"""A real PortAudio input stream: a recording played into a PulseAudio null sink whose monitor is the microphone."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.conftest import ROOT, tone

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
    command = ["pulseaudio", "-n", "--daemonize=yes", "--exit-idle-time=-1", "--use-pid-file=yes"]
    started = subprocess.run(
        [*command, "-L", "module-native-protocol-unix"], env=environment, capture_output=True, text=True
    )
    if started.returncode:
        pytest.skip(f"PulseAudio does not start here: {started.stderr.strip()[:200]}")
    plug_in(environment)
    yield environment
    subprocess.run(["pulseaudio", "--kill"], env=environment, capture_output=True)


def pactl(environment, *arguments):
    result = subprocess.run(["pactl", *arguments], env=environment, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def plug_in(environment, name="vmic", rate=16_000, channels=1):
    """A null sink, whose monitor is a microphone. Its module, to unplug it by."""
    form = [f"sink_name={name}", f"rate={rate}", f"channels={channels}"]
    return pactl(environment, "load-module", "module-null-sink", *form)


def unplug_all(environment):
    pactl(environment, "unload-module", "module-null-sink")


def as_microphone_file(tmp_path):
    """A saying between pauses, as the sink wants it: 16 kHz mono PCM16."""
    wave, rate = soundfile.read(ROOT / "examples/phone-number.wav", dtype="float32")
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
    kinds = [event["event"] for event in events if event["event"] not in ("token", "window_paused", "window_resumed")]
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


def beeps(tmp_path, seconds=1.5, hertz=440, rate=16_000):
    """A tone between pauses."""
    path = tmp_path / f"beep-{hertz}-{seconds}.wav"
    rest = np.zeros(8_000, np.float32)
    wave = np.concatenate((rest, tone(seconds, hertz=hertz), rest, rest))
    soundfile.write(path, soxr.resample(wave, 16_000, rate), rate, subtype="PCM_16")
    return path


class LiveSession:
    """A session over the real microphone with a core that answers with the pitch it heard; its events as they come."""

    CODE = """
import json, sys, threading
import numpy as np
from assistant.audio.microphone import MicrophoneSource
from assistant.commands.setup import make_host
from assistant.events import LevelMeasured
from assistant.profile import load
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import FakeCore, LoudIsVoice

class Pitch(FakeCore):
    def encode(self, samples):
        hertz = np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples)
        self.words = [f"{hertz:.0f} Hz"]
        return samples

def emit(event):
    if not isinstance(event, LevelMeasured):
        print(json.dumps(event.as_dict()), flush=True)

profile = load("default")
turns = Turns(Pitch(), make_host(profile, lambda *_: None, safe=True), profile)
session = Session(MicrophoneSource(None, patient=True), LoudIsVoice(), turns, emit)
threading.Thread(target=lambda: (sys.stdin.read(), session.stop("test is over")), daemon=True).start()
session.run()
"""

    def __init__(self, environment):
        self.environment, self.events = environment, []
        self._lines = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE], env=environment, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, name, seconds=20.0, **values):
        """Wait for an event with these values."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {name} {values} among {self.events}") from None
            assert line is not None, self._process.stderr.read()
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name and values.items() <= self.events[-1].items():
                return self.events[-1]

    def play(self, path, sink="vmic"):
        return subprocess.Popen(
            ["paplay", f"--device={sink}", str(path)], env=self.environment, stderr=subprocess.DEVNULL
        )

    def hear(self, path, sink="vmic"):
        """Play until it is answered; under heavy load a first recording can come out silent."""
        self.play(path, sink).wait()
        try:
            return self.until("response", 8.0)
        except AssertionError:
            self.play(path, sink).wait()
            return self.until("response", 8.0)

    def end(self):
        """Stop it; what it wrote on stderr."""
        _, errors = self._process.communicate("", timeout=20)
        return errors

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def live_session(virtual_microphone):
    session = LiveSession(virtual_microphone)
    yield session
    session.kill()


@pytest.mark.slow
def test_a_microphone_that_is_unplugged_while_somebody_speaks_costs_no_window(
    virtual_microphone, live_session, tmp_path
):
    live_session.until("listening", 30)
    assert live_session.hear(beeps(tmp_path))["text"] == "440 Hz"
    live_session.play(beeps(tmp_path, seconds=8))
    live_session.until("window_opened")
    time.sleep(0.5)
    unplug_all(virtual_microphone)
    cut = live_session.until("window_closed")
    live_session.until("response")
    plug_in(virtual_microphone, rate=48_000, channels=2)
    live_session.until("device_state", state="active")
    assert live_session.hear(beeps(tmp_path, hertz=1000))["text"] == "1000 Hz"
    assert live_session.end() == ""
    assert cut["reason"] == "device_lost"
    states = [event["state"] for event in live_session.events if event["event"] == "device_state"]
    assert states == ["active", "reconnecting", "active"]
    starts = [event["start_s"] for event in live_session.events if event["event"] == "window_opened"]
    assert len(starts) == 3
    assert starts == sorted(starts)
    kinds = [event["event"] for event in live_session.events]
    assert kinds.index("device_state") < kinds.index("listening")


@pytest.mark.slow
def test_another_default_microphone_is_followed(virtual_microphone, live_session, tmp_path):
    live_session.until("listening", 30)
    plug_in(virtual_microphone, "other", rate=44_100, channels=2)
    pactl(virtual_microphone, "set-default-source", "other.monitor")
    changed = live_session.until("device_state", device="default (other.monitor)")
    assert changed["state"] == "active"
    assert live_session.hear(beeps(tmp_path, hertz=500), "other")["text"] == "500 Hz"
    assert live_session.end() == ""


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_microphone_is_opened_at_its_own_rate_and_judged(virtual_microphone, tmp_path, rate):
    unplug_all(virtual_microphone)
    plug_in(virtual_microphone, rate=rate, channels=2)
    command = [sys.executable, "-m", "assistant", "devices", "--test", "--seconds", "3.5", "--json"]
    options = {"env": virtual_microphone, "cwd": ROOT, "text": True, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **options) as process:
        # At the sink's own rate: PulseAudio may switch an idle one to 48 kHz for a stream of another family.
        beep = beeps(tmp_path, rate=rate)
        while process.poll() is None:
            subprocess.run(["paplay", "--device=vmic", str(beep)], env=virtual_microphone)
        measured = json.loads(process.stdout.read())
    assert (measured["rate_hz"], measured["channels"], measured["dropped"]) == (rate, 2, 0)
    assert measured["verdict"] == "level fine"
    assert measured["peak_dbfs"] == pytest.approx(20 * np.log10(0.2), abs=1.0)


@pytest.mark.slow
def test_devices_watch_waits_for_a_microphone_and_says_when_it_goes(virtual_microphone):
    unplug_all(virtual_microphone)
    command = [sys.executable, "-m", "assistant", "devices", "--watch", "--json"]
    options = {"env": virtual_microphone, "cwd": ROOT, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        states = [json.loads(process.stdout.readline())["state"]]
        plug_in(virtual_microphone)
        states.append(json.loads(process.stdout.readline())["state"])
        unplug_all(virtual_microphone)
        states.append(json.loads(process.stdout.readline())["state"])
        process.terminate()
        rest, errors = process.communicate(timeout=20)
    assert states == ["unavailable", "active", "reconnecting"]
    assert (rest, errors, process.returncode) == ("", "", 0)
