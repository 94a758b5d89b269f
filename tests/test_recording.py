"""A session is written down and runs again: the same profile gives the same, another shows what differs."""

import io
import json
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from assistant.actions import Ask, Write
from assistant.audio.source import FileSource, StdinSource
from assistant.cli import app
from assistant.commands import listen as listen_command
from assistant.commands import replay as replay_command
from assistant.commands.keeping import keeping
from assistant.errors import UserError
from assistant.events import ErrorRaised, Responded, TokenGenerated, WindowDropped
from assistant.hookspecs import hookimpl
from assistant.plugin_host import PluginState
from assistant.profile import HistorySettings
from assistant.recorded import Recorded
from assistant.recording import Recording, unhurried
from assistant.replay import NOT_RECORDED, ReplayCore, ReplaySource, compare, replay, rows
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ROOT, ArraySource, FakeCore, LoudIsVoice, silence, tone
from tests.test_live import as_microphone_file, events_until, virtual_microphone  # noqa: F401 - a fixture
from tests.test_live import listen as hear

SAYING = np.concatenate((silence(1), tone(1), silence(1.5)))
THREE_SAYINGS = np.concatenate([np.concatenate((silence(1), tone(1, hertz=f), silence(1.5))) for f in (300, 400, 500)])


class Counts(FakeCore):
    """Says something else each time, so that no answer can be right by chance."""

    def stream(self, audio, prompt, cancelled=lambda: False):
        self.words = [f"window of {audio}, ", f"time {len(self.asked)}, ", "end"]
        yield from super().stream(audio, prompt, cancelled)


@pytest.fixture
def quiet(profile):
    """The default profile, without history."""
    return unhurried(profile.model_copy(update={"history": HistorySettings(keep_text=False)}))


@pytest.fixture
def record(quiet, host, tmp_path):
    def run(source, core=None, during=lambda session, event: None, name="rec", profile=quiet):
        events = []
        turns = Turns(core or Counts(), host, profile)
        with keeping(profile, source, events.append, tmp_path / name) as kept:
            kept.attach(turns)

            def emit(event):
                kept.emit(event)
                during(session, event)

            session = Session(kept.source, kept.tap(LoudIsVoice()), turns, emit)
            session.run()
        return tmp_path / name, events

    return run


def again(folder, host, profile=None, core=None):
    """The differences between a recording and its replay."""
    recorded = Recorded(folder)
    turns = Turns(core or ReplayCore(recorded), host, profile or recorded.profile())
    now = replay(ReplaySource(recorded), LoudIsVoice(), turns, lambda: None)
    return compare(rows(recorded.events), now)


def changes(pairs):
    return [pair.changes for pair in pairs]


@pytest.mark.parametrize("live", [False, True])
def test_the_same_profile_gives_the_same(record, host, live):
    folder, events = record(ArraySource(THREE_SAYINGS, live))
    assert sum(isinstance(e, Responded) for e in events) == 3
    pairs = again(folder, host)
    assert changes(pairs) == [{}, {}, {}]
    assert [pair.replayed["answer"] for pair in pairs] == [e.response.text for e in events if isinstance(e, Responded)]


def test_the_same_sound_again_gets_the_answer_that_it_got_then(record, host):
    folder, _ = record(ArraySource(np.tile(SAYING, 4)))
    pairs = again(folder, host)
    assert not any(changes(pairs))
    assert len({pair.replayed["answer"] for pair in pairs}) == 4


def test_what_is_on_disk_is_what_the_segmenter_heard_in_16_bit(record):
    noise = np.random.default_rng(1).uniform(-1.2, 1.2, len(SAYING)).astype(np.float32)

    def mute(session, event):
        if event.name == "window_opened":
            session.muted.set()

    folder, _ = record(ArraySource(noise), during=mute)
    wave, rate = soundfile.read(folder / "audio.flac", dtype="int16")
    assert rate == 16_000
    muted = int(np.flatnonzero(wave)[-1]) + 1
    assert 0 < muted < len(wave) // 2
    assert np.array_equal(wave[:muted], np.clip(np.rint(noise[:muted] * 32768), -32768, 32767).astype(np.int16))
    assert not (folder / "audio.raw").exists()


def test_windows_cut_by_hand_and_answers_cancelled_are_so_again(record, host):
    def meddle(session, event):
        if event.name == "window_opened" and event.window == 1:
            threading.Timer(0.0, session.cut_now).start()
        if isinstance(event, TokenGenerated) and event.window == 2:
            session.cancel()

    class Slow(ArraySource):
        def frames(self, stopped):
            for frame in super().frames(stopped):
                threading.Event().wait(0.0005)
                yield frame

    folder, _ = record(Slow(THREE_SAYINGS), during=meddle)
    then = rows(Recorded(folder).events)
    assert then[0]["reason"] == "manual"
    assert "cancelled" in [row["end"] for row in then]
    assert not any(changes(again(folder, host)))


def test_what_was_pressed_to_talk_is_so_again(record, quiet, host):
    pressed = quiet.model_copy(update={"hearing": quiet.hearing.model_copy(update={"mode": "push_to_talk"})})
    frames = []

    def press(session, event):
        if event.name == "level":
            frames.append(event)
            if len(frames) in (40, 150, 200, 280):
                session.toggle_talk()

    folder, _ = record(ArraySource(THREE_SAYINGS), during=press, profile=pressed)
    then = rows(Recorded(folder).events)
    assert [(row["start_s"], row["reason"]) for row in then] == [(1.2, "manual"), (6.0, "manual")]
    assert not any(changes(again(folder, host)))


def test_a_session_that_was_stopped_under_way_is_the_same_up_to_there(record, host):
    def stop(session, event):
        if event.name == "window_opened" and event.window == 2:
            session.stop("interrupted")

    folder, _ = record(ArraySource(THREE_SAYINGS), during=stop)
    assert Recorded(folder).about["reason"] == "interrupted"
    pairs = again(folder, host)
    assert pairs
    assert not any(changes(pairs))


def test_a_window_that_was_dropped_because_the_model_was_slow_is_no_difference(record, host):
    gate = threading.Event()
    many = np.concatenate([np.concatenate((tone(1, hertz=300 + 50 * n), silence(1.5))) for n in range(8)])

    class Stuck(Counts):
        def encode(self, samples):
            gate.wait(5)
            return super().encode(samples)

    def open_gate(_session, event):
        if isinstance(event, WindowDropped):
            gate.set()

    folder, events = record(ArraySource(many, live=True), Stuck(), open_gate)
    assert any(isinstance(e, WindowDropped) for e in events)
    pairs = again(folder, host)
    assert not any(changes(pairs))
    assert any(pair.unanswered for pair in pairs)


def test_a_model_that_failed_fails_again(record, host):
    class Breaks(FakeCore):
        def encode(self, samples):
            super().encode(samples)
            if self.encoded == 1:
                raise UserError("the model stumbled")
            return len(samples)

        def stream(self, *_):
            yield "half"
            raise UserError("the model stumbled")

    folder, _ = record(ArraySource(THREE_SAYINGS), Breaks())
    assert not any(changes(again(folder, host)))


def test_another_profile_shows_what_differs(record, host, quiet):
    folder, _ = record(ArraySource(THREE_SAYINGS))
    answer = quiet.answer.model_copy(update={"speech": "transcribe"})
    (first, *_) = changes(again(folder, host, quiet.model_copy(update={"answer": answer})))
    assert first["skill"] == ("spoken-qa", "transcribe")
    assert first["answer"][1] == NOT_RECORDED
    hearing = quiet.hearing.model_copy(update={"end_silence_s": 1.2})
    (first, *_) = changes(again(folder, host, quiet.model_copy(update={"hearing": hearing})))
    assert first["duration_s"][1] - first["duration_s"][0] == pytest.approx(0.4, abs=0.03)
    hearing = quiet.hearing.model_copy(update={"end_silence_s": 3.0})
    merged = changes(again(folder, host, quiet.model_copy(update={"hearing": hearing})))
    assert merged[1]["window"][1] is None  # three windows have become one


def test_what_a_skill_makes_of_no_answer_is_none_either():
    (row,) = rows(
        [
            {"event": "window_closed", "window": 1, "start_s": 0.0, "duration_s": 1.0, "kind": "sound", "reason": "x"},
            {"event": "turn_started", "window": 1, "kind": "sound", "skill": "captions", "prompt": "p"},
            {"event": "token", "window": 1, "text": NOT_RECORDED},
            {"event": "response", "window": 1, "text": "[(the recording has no answer to]", "end": "done"},
        ]
    )
    assert row["answer"] == NOT_RECORDED
    assert "missing" not in row


def test_a_live_model_that_says_something_else_is_a_difference(record, host):
    folder, _ = record(ArraySource(SAYING))
    (change,) = changes(again(folder, host, core=FakeCore("other")))
    assert change == {"answer": (change["answer"][0], "other")}


def test_the_plugins_calls_are_on_disk_with_what_went_in_and_came_out(record, host):
    class Louder:
        @hookimpl
        def consume_response(self, response):
            return replace(response, text=response.text.upper())

    host.register(Louder(), PluginState("louder", "test", "0", "louder", bundled=False))
    folder, _ = record(ArraySource(SAYING), FakeCore("hello"))
    calls = [json.loads(line) for line in (folder / "hooks.jsonl").read_text().splitlines()]
    (call,) = [call for call in calls if call["plugin"] == "louder"]
    assert (call["hook"], call["inputs"]["response"]["text"], call["output"]["text"]) == (
        "consume_response", "hello", "HELLO",
    )  # fmt: skip
    assert not any(changes(again(folder, host)))


def test_follow_ups_are_compared_and_files_are_not_written_a_second_time(record, host, tmp_path, monkeypatch):
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))

    class Writes:
        @hookimpl
        def consume_response(self, response):
            return replace(response, actions=(Write("notes.txt", "once\n"), Ask("And who says so?")))

    host.register(Writes(), PluginState("writes", "test", "0", "writes", bundled=False))
    folder, events = record(ArraySource(SAYING))
    assert sum(isinstance(e, Responded) for e in events) == 2
    (pair,) = again(folder, host)
    assert pair.replayed["follow_ups"][0]["prompt"] == "And who says so?"
    assert pair.replayed["follow_ups"][1]["answer"]
    assert pair.changes == {}
    assert (tmp_path / "data/notes.txt").read_text() == "once\n"


def test_a_recording_names_its_profile_and_versions_and_is_private(record, quiet):
    folder, _ = record(ArraySource(SAYING))
    recorded = Recorded(folder)
    assert recorded.profile().model_dump() == quiet.model_dump()
    assert recorded.about["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_recording_that_was_cut_off_replays_as_far_as_it_goes(record, host, monkeypatch):
    monkeypatch.setattr(Recording, "_finish", lambda self: self._audio.flush())
    folder, _ = record(ArraySource(THREE_SAYINGS))
    lines = (folder / "events.jsonl").read_bytes()
    (folder / "events.jsonl").write_bytes(lines[:-20])
    raw = (folder / "audio.raw").read_bytes()
    assert raw
    recorded = Recorded(folder)
    assert not recorded.complete
    assert not any(changes(again(folder, host)))


def spoil_profile(folder):
    (folder / "profile.yaml").write_text("name: other\n")


def spoil_sound(folder):
    soundfile.write(folder / "audio.flac", np.zeros(len(THREE_SAYINGS)), 16_000, subtype="PCM_16")


def spoil_about(folder):
    (folder / "recording.json").write_text("{")


def make_newer(folder):
    about = json.loads((folder / "recording.json").read_text())
    (folder / "recording.json").write_text(json.dumps(about | {"format": 99}))


def spoil_events(folder):
    (folder / "events.jsonl").write_text("{\n{}\n")


def lose_sound(folder):
    (folder / "audio.flac").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_profile, "was changed since"),
        (spoil_sound, "is not what was recorded"),
        (spoil_about, "is damaged"),
        (make_newer, "newer assistant"),
        (spoil_events, "line 1: damaged"),
        (lose_sound, "no such file"),
    ],
)
def test_a_recording_that_was_meddled_with_is_refused(record, host, spoil, said):
    folder, _ = record(ArraySource(THREE_SAYINGS))
    spoil(folder)
    with pytest.raises(UserError, match=said):
        again(folder, host)


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path, profile):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(UserError, match="is not empty"):
        Recording(tmp_path, profile, lambda event: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="cannot record into"):
        Recording(tmp_path / "thesis.txt", profile, lambda event: None)


def test_a_session_that_never_heard_anything_leaves_no_folder(tmp_path, quiet):
    with pytest.raises(UserError), keeping(quiet, ArraySource(SAYING), lambda event: None, tmp_path / "rec"):
        raise UserError("no weights")
    assert not (tmp_path / "rec").exists()


def test_a_full_disk_ends_the_recording_and_not_the_session(record, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recording, "_audio_write", full)
    _, events = record(ArraySource(THREE_SAYINGS))
    (error,) = [e for e in events if isinstance(e, ErrorRaised)]
    assert "No space left on device" in error.message
    assert "the session goes on" in error.message
    assert sum(isinstance(e, Responded) for e in events) == 3


def test_standard_input_and_a_file_are_recorded_like_a_microphone(record, host, tmp_path):
    pcm = (THREE_SAYINGS * 32767).astype("<i2").tobytes()
    soundfile.write(tmp_path / "a.wav", THREE_SAYINGS, 44_100)
    for name, source in (("stdin", StdinSource(io.BytesIO(pcm))), ("file", FileSource(tmp_path / "a.wav"))):
        folder, _ = record(source, name=name)
        pairs = again(folder, host)
        assert pairs
        assert not any(changes(pairs))


def test_the_commands_record_and_replay(monkeypatch, tmp_path, host):
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("assistant.commands.setup.load_core", lambda settings: FakeCore("hello"))
    monkeypatch.setattr(listen_command.signal, "signal", lambda *_: None)
    run = lambda *arguments: CliRunner().invoke(app, arguments)  # noqa: E731
    folder, file = str(tmp_path / "rec"), str(ROOT / "examples/please-try-later.wav")
    assert run("listen", "-i", file, "--record", folder).exit_code == 0
    assert "hello" in run("history", "list").stdout
    monkeypatch.setattr("assistant.commands.setup.load_core", None)  # a replay needs no model
    same = run("replay", folder)
    assert (same.exit_code, same.stdout) == (0, "1 window: identical\n")
    other = run("replay", folder, "--profile", "captions", "--json")
    row, summary = [json.loads(line) for line in other.stdout.splitlines()]
    assert other.exit_code == 1
    assert row["changes"]["skill"] == {"recorded": "spoken-qa", "replayed": "captions"}
    assert (summary["windows"], summary["different"]) == (1, 1)
    monkeypatch.setattr("assistant.commands.setup.load_core", lambda settings: FakeCore("bye"))
    live = run("replay", folder, "--live")
    assert live.exit_code == 1
    assert "- answer: hello\n  + answer: bye" in live.stdout
    assert "is no recording" in str(run("replay", str(tmp_path)).exception)


def test_other_versions_than_then_are_named(monkeypatch, record, capsys):
    folder, _ = record(ArraySource(SAYING))
    about = json.loads((folder / "recording.json").read_text())
    about["versions"]["numpy"] = "1.0"
    (folder / "recording.json").write_text(json.dumps(about))
    monkeypatch.setattr(replay_command, "make_detector", lambda _: LoudIsVoice())
    replay_command.run(folder, None, False, False)
    assert "recorded with numpy 1.0" in capsys.readouterr().err


@pytest.mark.microphone
@pytest.mark.weights
@pytest.mark.slow
def test_a_real_microphone_session_gives_the_same_again(virtual_microphone, tmp_path):  # noqa: F811
    folder = str(tmp_path / "rec")
    process = hear(virtual_microphone, "--for", "120", "--record", folder)
    assert events_until(process, "listening", 60)[-1]["event"] == "listening"
    saying = as_microphone_file(tmp_path)
    subprocess.run(["paplay", "--device=vmic", str(saying)], env=virtual_microphone, check=True)
    assert events_until(process, "response", 60)[-1]["event"] == "response"
    process.terminate()
    process.communicate(timeout=30)
    command = [sys.executable, "-m", "assistant", "replay", folder, "--json"]
    result = subprocess.run(command, env=virtual_microphone, capture_output=True, text=True, cwd=ROOT)
    *pairs, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, summary["different"]) == (0, 0), result.stdout + result.stderr
    assert any(pair["recorded"].get("answer") for pair in pairs)
