"""The microphone supervisor over a scripted input and a clock that only moves when somebody waits."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from assistant.audio import microphone
from assistant.audio.conversion import Converter
from assistant.audio.devices import Device, DeviceMissing, choose_device, same_device
from assistant.audio.level_report import report
from assistant.audio.supervisor import Supervisor
from assistant.audio.watch import Backoff, Limits, Watchdog
from assistant.errors import UserError
from assistant.events import DeviceStateChanged, Listening, Responded, WindowClosed, WindowOpened
from assistant.records import FRAME_S, SAMPLE_RATE
from assistant.session import Session
from tests.conftest import ROOT, LoudIsVoice, silence, tone

RATE = 48_000
BLOCK = round(RATE * FRAME_S)


class FakeClock:
    """Seconds that pass when somebody sleeps; `real` runs on while the machine does."""

    def __init__(self):
        self.now, self.slept = 0.0, 0.0

    def awake(self):
        return self.now

    def real(self):
        return self.now + self.slept

    def sleep(self, seconds):
        self.now += seconds


class FakeFeed:
    """Gives a wave at 48 kHz stereo in blocks of 30 ms, then what `after` says.

    Args:
        after: "dies" (the library notices), "hangs" (no callback, no error) or "slows" (a third of the blocks).
    """

    rate_hz = RATE

    def __init__(self, clock, wave, after="dies", label="headset"):
        self.clock, self.after, self.label = clock, after, label
        stereo = np.repeat(wave, RATE // SAMPLE_RATE)[:, None].repeat(2, axis=1)
        self.blocks = [np.zeros((BLOCK, 2), np.float32)]  # what opening waits for
        self.blocks += [stereo[i : i + BLOCK] for i in range(0, len(stereo) - BLOCK + 1, BLOCK)]
        self.closed, self.ended, self.moves = False, False, []

    def read(self, timeout_s):
        assert not self.closed
        if self.blocks:
            self.clock.now += FRAME_S
            return self.blocks.pop(0)
        self.ended = True
        if self.after == "slows":
            self.clock.now += 3 * FRAME_S
            return np.zeros((BLOCK, 2), np.float32)
        self.clock.now += timeout_s
        return None

    def alive(self):
        return self.after != "dies" or not self.ended

    def moved_to(self):
        return self.moves.pop() if self.moves else None

    def close(self):
        self.closed = True


class FakePort:
    """Opens the scripted feeds one after the other; an exception in the script is raised."""

    def __init__(self, *script):
        self.script, self.tries, self.feeds = list(script), 0, []

    def __call__(self):
        self.tries += 1
        if not self.script:
            raise UserError("no input device")
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        self.feeds.append(step)
        return step


@pytest.fixture
def clock():
    return FakeClock()


def hear(clock, port, seconds, patient=False, limits=None):
    """(event or frame, when) for so many seconds."""
    supervisor = Supervisor(port, "headset", patient, clock, limits)
    return [(item, clock.now) for item in supervisor.frames(lambda: clock.now >= seconds)]


def changes(heard):
    return [(item.state, item.device) for item, _ in heard if isinstance(item, DeviceStateChanged)]


def test_a_device_that_comes_back_is_heard_again(clock):
    port = FakePort(FakeFeed(clock, tone(1)), UserError("busy"), FakeFeed(clock, tone(9)))
    heard = hear(clock, port, 2.7)
    assert changes(heard) == [("active", "headset"), ("reconnecting", "headset"), ("active", "headset")]
    assert all(feed.closed for feed in port.feeds)


def test_a_device_that_hangs_without_an_error_is_given_up(clock):
    heard = hear(clock, FakePort(FakeFeed(clock, tone(1), "hangs"), FakeFeed(clock, tone(1))), 7)
    lost, when = next((item, at) for item, at in heard if getattr(item, "state", "") == "reconnecting")
    assert "gave no sound" in lost.reason
    assert 1 + Limits().stall_s <= when < 1 + Limits().stall_s + 0.5


def test_a_device_that_gives_a_third_of_its_sound_is_given_up(clock):
    heard = hear(clock, FakePort(FakeFeed(clock, tone(1), "slows")), 20)
    lost = next(item for item, _ in heard if getattr(item, "state", "") == "reconnecting")
    assert "only" in lost.reason
    assert "%" in lost.reason


def test_a_reader_that_was_busy_does_not_blame_the_device(clock):
    watchdog = Watchdog(clock, Limits())
    for _ in range(1000):
        clock.now += FRAME_S
        watchdog.heard(FRAME_S)
    clock.now += 25
    watchdog.heard(FRAME_S)
    assert watchdog.complaint() is None


def test_after_the_machine_slept_the_stream_is_opened_anew(clock):
    feed = FakeFeed(clock, tone(2))
    port = FakePort(feed, FakeFeed(clock, tone(9)))
    heard = []
    for item in Supervisor(port, "headset", clock=clock).frames(lambda: clock.now >= 1.5):
        heard.append((item, clock.now))
        if len(heard) == 10:
            clock.slept += 3600
    reasons = [item.reason for item, _ in heard if isinstance(item, DeviceStateChanged)]
    assert reasons == ["it is ready", "the machine slept for 3600 s", "it is back"]


def test_the_streams_time_follows_the_clock_while_the_device_is_away(clock):
    port = FakePort(FakeFeed(clock, tone(2)), *[UserError("busy")] * 5, FakeFeed(clock, tone(2)))
    heard = hear(clock, port, 11)
    frames = [item for item, _ in heard if isinstance(item, np.ndarray)]
    assert len(frames) * FRAME_S == pytest.approx(11, abs=0.3)
    assert not frames[150].any()


def test_a_device_that_stays_away_is_unavailable_once_and_looked_for_quietly(clock):
    port = FakePort(FakeFeed(clock, tone(1)))
    heard = hear(clock, port, 120)
    assert changes(heard) == [("active", "headset"), ("reconnecting", "headset"), ("unavailable", "headset")]
    when = next(at for item, at in heard if getattr(item, "state", "") == "unavailable")
    assert 1 + Limits().give_up_s <= when < 1 + Limits().give_up_s + Limits().retry_most_s
    assert 20 < port.tries < 35  # often at first, then every few seconds


def test_retries_wait_longer_each_time_up_to_a_limit():
    backoff = Backoff(Limits(retry_first_s=1, retry_most_s=5))
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_device_that_opens_but_stays_silent_counts_as_away(clock):
    dead = FakeFeed(clock, silence(0), "hangs")
    dead.blocks.clear()
    port = FakePort(FakeFeed(clock, tone(1)), dead, FakeFeed(clock, tone(9)))
    assert [state for state, _ in changes(hear(clock, port, 11))] == ["active", "reconnecting", "active"]
    assert dead.closed


def test_without_patience_a_missing_device_is_an_error(clock):
    with pytest.raises(UserError, match="no input device"):
        hear(clock, FakePort(), 5)


def test_with_patience_a_missing_device_is_waited_for_without_a_sound(clock):
    port = FakePort(UserError("not there"), UserError("not there"), FakeFeed(clock, tone(1)))
    heard = hear(clock, port, 1.5, patient=True)
    assert changes(heard) == [("unavailable", "headset"), ("active", "headset")]
    assert isinstance(heard[0][0], DeviceStateChanged)
    assert isinstance(heard[1][0], DeviceStateChanged)


def test_another_default_device_is_announced_without_a_gap(clock):
    feed = FakeFeed(clock, tone(2))
    feed.moves.append("webcam")
    heard = hear(clock, FakePort(feed), 1.9)
    assert changes(heard) == [("active", "headset"), ("active", "webcam")]


def test_stopping_closes_the_device_and_says_nothing_more(clock):
    feed = FakeFeed(clock, tone(5))
    frames = Supervisor(FakePort(feed), "headset", clock=clock).frames(lambda: False)
    next(frames)
    frames.close()
    assert feed.closed


class SupervisedSource:
    """A supervisor as a session takes it."""

    name, live, end = "headset", True, "manual"

    def __init__(self, supervisor, stopped):
        self._supervisor, self._stopped = supervisor, stopped

    def frames(self, stopped):
        return self._supervisor.frames(lambda: stopped() or self._stopped())

    def dropped(self):
        return 0


def test_a_window_that_was_open_when_the_device_went_is_answered(clock, turns):
    """The speech breaks off with the device; more comes when it is back, later in the same stream."""
    saying = np.concatenate((silence(1), tone(1), silence(1.5)))
    port = FakePort(
        FakeFeed(clock, np.concatenate((silence(1), tone(1)))), *[UserError("gone")] * 3, FakeFeed(clock, saying)
    )
    events = []
    source = SupervisedSource(Supervisor(port, "headset", clock=clock), lambda: clock.now > 7.5)
    Session(source, LoudIsVoice(), turns, events.append).run()
    closed = [event for event in events if isinstance(event, WindowClosed)]
    assert [window.reason for window in closed] == ["device_lost", "silence"]
    assert sum(isinstance(event, Responded) for event in events) == 2
    opened = [event for event in events if isinstance(event, WindowOpened)]
    assert [window.window for window in opened] == [1, 2]
    assert opened[1].start_s > opened[0].start_s + 3  # the stream's time went on
    kinds = [type(event) for event in events]
    assert kinds.index(DeviceStateChanged) < kinds.index(Listening)


def dominant_hertz(wave):
    return np.argmax(np.abs(np.fft.rfft(wave))) * SAMPLE_RATE / len(wave)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_rate_and_channel_count_becomes_mono_at_16_khz(rate, channels):
    at = np.arange(rate) / rate
    wave = (0.3 * np.sin(2 * np.pi * 1000 * at)).astype(np.float32)[:, None].repeat(channels, axis=1)
    converter = Converter(rate)
    size = round(rate * FRAME_S)
    frames = [frame for i in range(0, rate, size) for frame in converter.push(wave[i : i + size])]
    heard = np.concatenate(frames)
    assert {len(frame) for frame in frames} == {480}
    assert len(heard) == pytest.approx(SAMPLE_RATE, rel=0.1)
    assert dominant_hertz(heard) == pytest.approx(1000, abs=3)
    assert np.max(np.abs(heard[2000:-2000])) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("other", [0.0, -1.0], ids=["one channel is dead", "the channels are out of phase"])
def test_a_voice_on_one_channel_is_neither_halved_nor_cancelled(other):
    wave = tone(2)
    converter = Converter(SAMPLE_RATE)
    stereo = np.stack((other * wave, wave), axis=1)
    frames = [frame for i in range(0, len(wave), 480) for frame in converter.push(stereo[i : i + 480])]
    assert np.max(np.abs(np.concatenate(frames)[8000:])) == pytest.approx(0.2, rel=0.01)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ | environment
    )


def test_what_libraries_print_is_hidden_and_what_python_prints_is_not():
    result = run_python("""
import os, sys
from assistant.audio.quiet import native_output_apart
held = sys.__stderr__  # as Textual's driver does
print("before", file=sys.stderr)
with native_output_apart():
    os.write(2, b"ALSA lib: noise\\n")
    print("during", file=held)
    with native_output_apart():
        os.write(2, b"jack: noise\\n")
    os.write(2, b"PortAudio: noise\\n")
print("after", file=sys.stderr)
os.write(2, b"a crash\\n")
""")
    assert result.stderr.splitlines() == ["before", "during", "after", "a crash"]


def test_what_libraries_print_can_be_kept_in_a_file(tmp_path):
    log = tmp_path / "native.log"
    code = (
        "import os\nfrom assistant.audio.quiet import native_output_apart as apart\nwith apart(): os.write(2, b'why')"
    )
    assert run_python(code, ASSISTANT_NATIVE_LOG=str(log)).stderr == ""
    assert log.read_text() == "why"
    refused = run_python(code, ASSISTANT_NATIVE_LOG=str(tmp_path / "no" / "such" / "folder")).stderr
    assert "UserError: ASSISTANT_NATIVE_LOG: cannot write to" in refused


def test_many_threads_may_hide_what_libraries_print():
    result = run_python("""
import os, sys, threading
from assistant.audio.quiet import native_output_apart
def noisy():
    for _ in range(200):
        with native_output_apart():
            os.write(2, b"noise\\n")
threads = [threading.Thread(target=noisy) for _ in range(8)]
[thread.start() for thread in threads]
for _ in range(100):
    print("ours", file=sys.stderr, flush=True)
[thread.join() for thread in threads]
os.write(2, b"end\\n")
print(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)
""")
    assert result.stderr.splitlines() == ["ours"] * 100 + ["end"]
    assert int(result.stdout) < 12  # no descriptor leaks


class FakePortAudio:
    """Opens a stream only in the formats it takes."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *formats):
        self.formats, self.tried, self.callback, self.closed = formats, [], None, 0

    def InputStream(self, samplerate, channels, callback, **_):
        self.tried.append((samplerate, channels))
        if (samplerate, channels) not in self.formats:
            raise self.PortAudioError("invalid sample rate")
        self.callback = callback
        return self

    def start(self):
        pass

    def close(self, ignore_errors):
        self.closed += 1


@pytest.fixture
def open_feed(monkeypatch):
    def build(fake, rate_hz=44_100, channels=2):
        monkeypatch.setattr(microphone, "streaming", lambda: nullcontext(fake))
        return microphone.MicrophoneFeed(Device(3, "USB mic", "ALSA", channels, rate_hz, False), microphone.Drops())

    return build


def test_a_device_is_opened_in_its_own_format_if_it_can(open_feed):
    fake = FakePortAudio((44_100, 2), (16_000, 1))
    feed = open_feed(fake)
    assert (feed.rate_hz, feed.channels) == (44_100, 2)
    feed.close()
    assert fake.closed == 1


def test_a_device_that_lies_about_its_format_is_opened_in_another(open_feed):
    feed = open_feed(FakePortAudio((16_000, 1)))
    assert (feed.rate_hz, feed.channels) == (16_000, 1)


def test_hardware_that_opens_with_all_of_its_channels_alone_is_opened_so(open_feed):
    feed = open_feed(FakePortAudio((48_000, 18)), 48_000, 18)
    assert (feed.rate_hz, feed.channels) == (48_000, 18)


def test_a_device_that_refuses_every_format_is_named(open_feed):
    with pytest.raises(UserError, match=r"cannot open the microphone 'USB mic' \(invalid sample rate\)"):
        open_feed(FakePortAudio())


def test_a_full_queue_counts_what_it_loses(open_feed):
    fake = FakePortAudio((16_000, 1))
    feed = open_feed(fake, 16_000, 1)
    fine, overrun = SimpleNamespace(input_overflow=False), SimpleNamespace(input_overflow=True)
    for _ in range(int(microphone.QUEUE_SECONDS / FRAME_S / microphone.BLOCK_FRAMES) + 7):
        fake.callback(np.zeros((960, 1), np.float32), 960, None, fine)
    feed.read(0)
    fake.callback(np.zeros((960, 1), np.float32), 960, None, overrun)
    assert feed._drops.take() == 8 * microphone.BLOCK_FRAMES  # it counts frames
    assert feed._drops.take() == 0


HEADSET, WEBCAM = Device(0, "headset", "ALSA", 1, 48_000, True), Device(1, "webcam", "ALSA", 2, 44_100, False)


def test_a_device_keeps_its_name_when_its_number_changes():
    later = [replace(WEBCAM, index=0), replace(HEADSET, index=4)]
    assert same_device(HEADSET, later).index == 4
    with pytest.raises(DeviceMissing, match="headset is not there"):
        same_device(HEADSET, later[:1])


def test_only_a_device_that_may_come_is_waited_for():
    with pytest.raises(DeviceMissing, match="there are: 0 'headset', 1 'webcam'"):
        choose_device("kazoo", [HEADSET, WEBCAM])
    with pytest.raises(UserError, match="2 input devices fit 'e'") as several:
        choose_device("e", [HEADSET, WEBCAM])
    assert not isinstance(several.value, DeviceMissing)


def judged(wave):
    frames = wave[: len(wave) // 480 * 480].reshape(-1, 480)
    return report(list(frames))


def test_a_microphone_is_judged_by_what_it_heard():
    speech = np.concatenate((silence(1), tone(1, 0.2), silence(1)))
    assert judged(speech).verdict == "level fine"
    assert judged(speech / 50).verdict == "too quiet: raise the gain"
    assert judged(np.clip(speech * 20, -1, 1)).verdict == "clipping: lower the gain"
    assert judged(speech * 0).verdict == "silence: is it muted?"


def test_the_numbers_of_a_microphone_are_those_of_the_sound():
    measured = judged(np.concatenate((silence(1), tone(1, 0.5), silence(1))))
    assert measured.peak_dbfs == pytest.approx(-6.0, abs=0.1)
    assert measured.loud_dbfs == pytest.approx(-9.0, abs=0.1)
    assert measured.floor_dbfs == pytest.approx(-80.0, abs=1.0)
    assert measured.seconds == pytest.approx(3.0, abs=0.05)
    assert measured.clipped_samples == 0
