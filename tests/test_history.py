"""What is kept, what is found again, and what is really gone."""

import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from assistant.cli import app
from assistant.commands import ask as ask_command
from assistant.commands.history import parse_time
from assistant.commands.keeping import keeping
from assistant.errors import UserError
from assistant.events import ErrorRaised, Responded, TokenGenerated, WindowClosed
from assistant.history import HistoryStore, HistoryWriter, KeptSession, KeptTurn, KeptWindow, privacy_line, wipe
from assistant.history import schema as schema_module
from assistant.history.export import srt, vtt
from assistant.hookspecs import hookimpl
from assistant.plugin_host import PluginState
from assistant.profile import HistorySettings
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ROOT, ArraySource, FakeCore, LoudIsVoice, silence, tone

SAYING = np.concatenate((silence(1), tone(1), silence(1.5)))
TWO_SAYINGS = np.concatenate((SAYING, SAYING))


@pytest.fixture
def settings(tmp_path):
    return HistorySettings(path=str(tmp_path / "kept" / "history.db"))


@pytest.fixture
def file(settings, tmp_path):
    return tmp_path / "kept" / "history.db"


def a_turn(answer="the kettle boils", age_s=0.0, number=1, session=None, **changes):
    window = KeptWindow(number, time.time() - age_s, 2.0 * number, 1.5, "silence", -20.0)
    values = {"kind": "speech", "skill": "spoken-qa", "prompt": "What is it?", "answer": answer, "slots": None}
    values |= {"timings_ms": {"total": 12.0}, "end": "done"} | changes
    return KeptTurn(session=session or KeptSession(0.0, "default", "fake", "array"), window=window, **values)


def listen(profile, turns, history, wave=TWO_SAYINGS, during=lambda kept, session, event: None):
    """A session under that `history:`; its events."""
    events = []
    profile = profile.model_copy(update={"history": history})
    with keeping(profile, ArraySource(wave), events.append) as kept:
        session = Session(
            kept.source, kept.tap(LoudIsVoice()), turns, lambda e: (kept.emit(e), during(kept, session, e))
        )
        session.run()
    return events


def kept_in(file):
    with HistoryStore(file) as store:
        return store.turns()


def on_disk(file):
    return b"".join(path.read_bytes() for path in file.parent.iterdir())


def errors(events):
    return [e.message for e in events if isinstance(e, ErrorRaised) and e.source == "history"]


def test_a_session_leaves_its_turns_and_no_sound(profile, turns, settings, file):
    assert not errors(listen(profile, turns, settings))
    one, two = kept_in(file)
    assert (one.answer, one.prompt, one.skill, one.end) == (
        "hello there", "Answer the spoken question.", "spoken-qa", "done",
    )  # fmt: skip
    assert (one.session.device, one.session.profile, one.session.model) == ("array", "default", "fake")
    assert (one.window.number, two.window.number) == (1, 2)
    assert one.window.reason == "silence"
    assert one.timings_ms["total"] >= one.timings_ms["encode"]
    assert abs(one.window.closed_at - time.time()) < 60
    assert one.session == two.session
    assert not one.kept_audio
    assert b"fLaC" not in on_disk(file)


def test_sound_is_kept_if_the_profile_says_so_and_is_what_the_model_heard(profile, turns, core, settings, file):
    heard = []
    encode = core.encode
    core.encode = lambda samples: (heard.append(samples), encode(samples))[1]
    listen(profile, turns, settings.model_copy(update={"keep_audio": True}))
    with HistoryStore(file) as store:
        for turn, samples in zip(store.turns(), heard, strict=True):
            wave, rate = soundfile.read(io.BytesIO(store.audio(turn.id)), dtype="float32")
            assert rate == 16_000
            assert np.abs(wave - samples).max() <= 1 / 32_768
            assert turn.kept_audio


def test_what_is_muted_is_not_kept(profile, turns, settings, file):
    def mute(_kept, session, event):
        if event.name == "window_opened":
            session.muted.set()

    listen(profile, turns, settings.model_copy(update={"keep_audio": True}), SAYING, mute)
    with HistoryStore(file) as store:
        wave, _ = soundfile.read(io.BytesIO(store.audio(1)), dtype="float32")
    assert np.abs(wave[: len(wave) // 2]).max() > 0.1
    assert not wave[-8000:].any()


def test_without_text_and_sound_there_is_no_file(profile, turns, settings, file):
    listen(profile, turns, settings.model_copy(update={"keep_text": False}))
    assert not file.exists()


def test_without_text_a_turn_has_neither_words_nor_prompt(profile, turns, settings, file):
    listen(profile, turns, settings.model_copy(update={"keep_text": False, "keep_audio": True}))
    turn = kept_in(file)[0]
    assert (turn.prompt, turn.answer, turn.slots) == (None, None, None)
    assert privacy_line(turn).startswith("text not kept; audio kept")
    assert b"hello there" not in on_disk(file)


def test_only_the_owner_can_read_the_file_and_its_logs(file):
    with HistoryStore(file) as store:
        store.add(a_turn())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes == dict.fromkeys(("history.db", "history.db-wal", "history.db-shm"), 0o600)


def test_who_saw_a_window_is_on_its_privacy_line(profile, turns, settings, file):
    class Weather:
        USES_NETWORK = True

        @hookimpl
        def consume_response(self, response):
            return None

    listen(profile, turns, settings, SAYING)
    turns.host.register(Weather(), PluginState("weather", "test", "0", "weather", bundled=False))
    listen(profile, turns, settings, SAYING)
    before, after = kept_in(file)
    assert privacy_line(before).startswith("text kept; audio not kept; seen by ")
    assert privacy_line(before).endswith("; none of them declares network use")
    assert "weather" not in before.seen_by
    assert "weather" in after.seen_by
    assert privacy_line(after).endswith("; one of them uses the network")


def test_a_turn_that_fails_is_kept_as_failed(profile, host, settings, file):
    class Breaks(FakeCore):
        def stream(self, *_):
            yield "half "
            raise UserError("the model stumbled")

    listen(profile, Turns(Breaks(), host, profile), settings)
    assert [(turn.answer, turn.end) for turn in kept_in(file)] == [("half", "failed")] * 2


def test_words_phrases_and_beginnings_are_found(file):
    with HistoryStore(file) as store:
        for answer in ("the kettle boils", "the café's door bell", "a bell at the door"):
            store.add(a_turn(answer))
        store.add(a_turn("nothing", slots={"device": "kettle"}))
        find = lambda query: [turn.id for turn, _ in store.search(query)]  # noqa: E731
        assert sorted(find("door bell")) == [2, 3]
        assert find('"door bell"') == [2]
        assert sorted(find("kett*")) == [1, 4]
        assert find("cafe") == [2]
        assert find("kettle bell") == []
        assert store.search("boils")[0][1] == "the kettle [boils]"


@pytest.mark.parametrize("query", ["AND", "kettle)", "a:b", "NEAR(", "it's", "-", '"open', "^x", "c++", "a NOT b"])
def test_no_query_is_a_syntax_error(file, query):
    with HistoryStore(file) as store:
        store.add(a_turn())
        try:
            store.search(query)
        except UserError as error:
            assert "nothing to search for" in str(error)  # noqa: PT017


@pytest.mark.parametrize("how", ["one", "before", "all", "expired"])
def test_what_is_forgotten_is_in_no_file_any_more(file, how):
    sound = os.urandom(20_000)
    with HistoryStore(file) as store:
        old = store.add(a_turn("zyzzyva secret", age_s=10 * 86_400, slots={"word": "quokkaqueue"}), sound)
        if how != "all":
            store.add(a_turn("stays", number=2))
        assert b"zyzzyva" in on_disk(file)
        assert sound[5000:5100] in on_disk(file)
        forget = {
            "one": lambda: store.forget([old]),
            "before": lambda: store.forget_before(time.time() - 86_400),
            "all": store.forget_all,
            "expired": lambda: store.expire(7),
        }
        assert forget[how]() == 1
        left = on_disk(file)
        assert not store.search("zyzzyva")
    # While the file is still open, so that the write-ahead log counts too.
    assert not any(trace in left for trace in (b"zyzzyva", b"quokkaqueue", sound[5000:5100]))
    assert [turn.answer for turn in kept_in(file)] == ([] if how == "all" else ["stays"])


def test_forgetting_gives_the_disk_its_room_back(file):
    with HistoryStore(file) as store:
        for number in range(20):
            store.add(a_turn(number=number), os.urandom(100_000))
        store.forget_all()
    assert file.stat().st_size < 200_000


def test_a_number_is_not_given_twice(file):
    with HistoryStore(file) as store:
        store.add(a_turn())
        store.forget([store.add(a_turn())])
        assert store.add(a_turn()) == 3


def test_a_window_stays_while_another_turn_is_about_it(file):
    session = KeptSession(0.0, "default", "fake", "array")
    with HistoryStore(file) as store:
        first = store.add(a_turn(session=session), b"sound")
        again = store.add(a_turn("asked again", session=session))
        store.forget([first])
        assert store.audio(again) == b"sound"


def test_forgetting_one_that_does_not_exist_forgets_none(file):
    with HistoryStore(file) as store:
        store.add(a_turn())
        with pytest.raises(UserError, match="no turn 7"):
            store.forget([1, 7])
        assert len(store.turns()) == 1


def test_old_turns_go_when_a_session_starts(profile, turns, settings, file):
    with HistoryStore(file) as store:
        store.add(a_turn("too old", age_s=31 * 86_400))
        store.add(a_turn("old", age_s=29 * 86_400, number=2))
    listen(profile, turns, settings, SAYING)
    assert [turn.answer for turn in kept_in(file)] == ["old", "hello there"]


def test_the_command_line_reads_and_wipes_while_a_session_writes(profile, turns, settings, file):
    seen = []

    def look(kept, _session, event):
        if isinstance(event, Responded):
            done = threading.Event()
            kept.history._worker.do(done.set)
            done.wait(5)
            seen.append(len(kept_in(file)))
            assert wipe(settings) == 1

    assert not errors(listen(profile, turns, settings, during=look))
    assert seen == [1, 1]
    assert kept_in(file) == []


def test_the_wipe_key_takes_the_running_answer_too(profile, turns, settings, file):
    counts = []

    def press(kept, _session, event):
        if isinstance(event, TokenGenerated) and event.window == 2:
            kept.history.wipe(counts.append)

    listen(profile, turns, settings, during=press)
    assert counts[0] == 1
    assert kept_in(file) == []
    assert b"hello there" not in on_disk(file)


def test_the_delete_key_takes_one_window_and_its_answers(profile, turns, settings, file):
    def press(kept, _session, event):
        if isinstance(event, Responded) and event.response.window_id == 2:
            kept.history.forget(1)

    listen(profile, turns, settings, during=press)
    (left,) = kept_in(file)
    assert left.window.number == 2


def test_a_window_that_is_forgotten_before_its_answer_leaves_nothing(profile, turns, settings, file):
    def press(kept, session, event):
        if isinstance(event, WindowClosed) and event.window == 2:
            kept.history.forget(2)
            session._turns.forget(2)

    listen(profile, turns, settings, during=press)
    assert [turn.window.number for turn in kept_in(file)] == [1]
    assert [turn.window_id for turn in turns.past] == list(turns.heard) == [1]


def test_the_delete_key_leaves_the_windows_of_earlier_sessions(profile, turns, settings, file):
    listen(profile, turns, settings)

    def press(kept, _session, event):
        if isinstance(event, Responded) and event.response.window_id == 2:
            kept.history.forget(2)

    listen(profile, turns, settings, during=press)
    assert [turn.window.number for turn in kept_in(file)] == [1, 2, 1]


def test_after_a_kill_everything_that_was_answered_is_there(file):
    code = f"""
import os
from pathlib import Path
from assistant.history import HistoryStore
from tests.test_history import a_turn
store = HistoryStore(Path({str(file)!r}))
for number in range(5):
    store.add(a_turn(f"answer {{number}}", number=number))
store._connection.execute("BEGIN IMMEDIATE")
store._connection.execute("DELETE FROM turns")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    assert [turn.answer for turn in kept_in(file)] == [f"answer {n}" for n in range(5)]


def newer(file):
    with HistoryStore(file):
        pass
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(file):
    with HistoryStore(file) as store:
        store.add(a_turn())
    file.write_bytes(b"\x00garbage" * 4000)


def somebody_elses(file):
    file.parent.mkdir()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE places (url)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(newer, "newer assistant"), (damaged, "damaged or no history"), (somebody_elses, "another program")],
)
def test_a_file_that_cannot_be_used_is_named_and_left_alone(profile, turns, settings, file, spoil, said):
    spoil(file)
    before = file.read_bytes()
    with pytest.raises(UserError, match=said):
        HistoryStore(file)
    events = listen(profile, turns, settings)
    assert len(errors(events)) == 1
    assert said in errors(events)[0]
    assert sum(isinstance(e, Responded) for e in events) == 2
    assert file.read_bytes() == before


def test_damage_that_is_found_later_is_one_clear_line(file):
    with HistoryStore(file) as store:
        for number in range(50):
            store.add(a_turn(f"word{number} " * 200, number=number))
    data = bytearray(file.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(UserError, match="left as it is"), HistoryStore(file) as store:
        store.turns()


def test_a_full_disk_costs_turns_but_not_the_session(profile, turns, settings, file, monkeypatch):
    prepare = HistoryStore._prepare

    def small(store):
        prepare(store)
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(HistoryStore, "_prepare", small)
    turns.core.words = ["long "] * 3000
    events = listen(profile, turns, settings)
    (message,) = errors(events)
    assert "full" in message
    assert "make room" in message
    assert sum(isinstance(e, Responded) for e in events) == 2
    monkeypatch.undo()
    turns.core.words = ["room again"]
    assert not errors(listen(profile, turns, settings))
    assert "room again" in kept_in(file)[-1].answer


def test_a_slow_disk_delays_no_token(profile, turns, settings, monkeypatch):
    release, add = threading.Event(), HistoryStore.add
    monkeypatch.setattr(HistoryStore, "add", lambda *a: (release.wait(10), add(*a))[1])
    answered = []

    def count(_kept, _session, event):
        if isinstance(event, Responded):
            answered.append(event)
            if len(answered) == 2:  # both answers are out while the first is still being written
                assert not release.is_set()
                release.set()

    listen(profile, turns, settings, during=count)
    assert len(answered) == 2


def test_a_migration_keeps_what_is_there_and_a_failing_one_changes_nothing(file, monkeypatch):
    with HistoryStore(file) as store:
        store.add(a_turn())
        connection = store._connection
        good = (*schema_module.MIGRATIONS, "ALTER TABLE turns ADD COLUMN liked INTEGER;\n")
        with pytest.raises(sqlite3.OperationalError):
            schema_module.migrate(connection, file, (*good, "CREATE TABLE x (y);\nCREATE NONSENSE;\n"))
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(schema_module.MIGRATIONS)
        assert "liked" not in connection.execute("SELECT * FROM turns").fetchone().keys()  # noqa: SIM118
        schema_module.migrate(connection, file, good)
        assert connection.execute("SELECT answer, liked FROM turns").fetchone()[:] == ("the kettle boils", None)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(good)


def test_a_history_from_before_words_were_kept_is_still_found_and_gets_them(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file)
    schema_module.migrate(connection, file, schema_module.MIGRATIONS[:1])
    connection.execute("INSERT INTO sessions VALUES (1, 's', 1.0, 'default', 'tiny', 'mic')")
    connection.execute("INSERT INTO windows VALUES (1, 1, 1, 1.0, 0.0, 1.0, 'silence', -20.0, NULL)")
    connection.execute(
        "INSERT INTO turns VALUES (7, 1, 'speech', 'chat', 'Answer.', 'an old kettle', NULL, '{}', 'done', '[]', 0)"
    )
    connection.commit()
    connection.close()
    with HistoryStore(file) as store:
        assert [turn.id for turn, _ in store.search("kettle")] == [7]
        store.add(replace(a_turn(), said="is the bath ready"))
        ((turn, excerpt),) = store.search("bath")
        assert (turn.said, excerpt) == ("is the bath ready", "is the [bath] ready")
        store.forget([turn.id])
        assert not store.search("bath")


def test_a_profile_that_is_switched_writes_into_its_own_file(profile, turns, settings, tmp_path):
    other = HistorySettings(path=str(tmp_path / "other.db"))
    switched = profile.model_copy(update={"history": other, "name": "other"})

    def switch(kept, _session, event):
        if isinstance(event, Responded) and event.response.window_id == 1:
            kept.history.use(switched)

    listen(profile, turns, settings, during=switch)
    assert [turn.window.number for turn in kept_in(tmp_path / "kept" / "history.db")] == [1]
    (turn,) = kept_in(tmp_path / "other.db")
    assert (turn.window.number, turn.session.profile, turn.session.device) == (2, "other", "array")


def test_subtitles_have_the_times_of_the_stream():
    turns = [a_turn("first\n\nline", number=1), a_turn("a < b", number=1801)]
    assert srt(turns).splitlines() == [
        "1", "00:00:02,000 --> 00:00:03,500", "first", "line", "",
        "2", "01:00:02,000 --> 01:00:03,500", "a < b", "",
    ]  # fmt: skip
    assert vtt(turns).startswith("WEBVTT\n\n00:00:02.000 --> 00:00:03.500\nfirst\nline\n\n")
    assert "a &lt; b" in vtt(turns)


@pytest.mark.parametrize(("text", "age"), [("30m", 1800), ("2h", 7200), ("7d", 604_800), ("3w", 1_814_400)])
def test_an_age_is_a_time(text, age):
    assert abs(time.time() - age - parse_time(text)) < 5


def test_what_is_no_time_is_said():
    assert parse_time("2026-05-01T14:30") - parse_time("2026-05-01") == 14.5 * 3600
    with pytest.raises(UserError, match="no time: 'yesterday'"):
        parse_time("yesterday")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The program in this process, with a data folder of its own."""
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, ["history", *arguments])


def test_the_commands_find_show_export_and_forget(run, tmp_path):
    with HistoryStore(tmp_path / "history.db") as store:
        store.add(a_turn("the kettle boils", slots={"state": "hot"}), b"fLaC sound")
        store.add(a_turn("a dog", number=2, age_s=3 * 3600))
    assert "the [kettle] boils" in run("search", "kettle").stdout
    assert json.loads(run("search", "kettle", "--json").stdout)["excerpt"] == "the [kettle] boils"
    assert "a dog" in run("list").stdout
    assert "a dog" not in run("list", "--since", "2h").stdout
    assert len(run("list", "--json", "-n", "1").stdout.splitlines()) == 1
    shown = run("show", "1").stdout
    assert "privacy   text kept; audio kept" in shown
    assert "record    {'state': 'hot'}" in shown
    assert json.loads(run("show", "2", "--json").stdout)["kept_audio"] is False
    run("show", "1", "--save-audio", str(tmp_path / "a.flac"))
    assert (tmp_path / "a.flac").read_bytes() == b"fLaC sound"
    assert "> What is it?\n\nthe kettle boils" in run("export").stdout
    assert [row["answer"] for row in json.loads(run("export", "--format", "json").stdout)] == [
        "the kettle boils",
        "a dog",
    ]
    assert run("export", "--format", "srt").stdout.count("-->") == 1  # the last session's
    assert run("forget", "1").stdout == "1 turn forgotten\n"
    assert json.loads(run("forget", "--all", "--json").stdout) == {"forgotten": 1}


def test_nothing_kept_is_no_error_and_looking_makes_no_file(run, tmp_path):
    assert run("list").exit_code == 0
    assert run("search", "kettle").exit_code == 0
    assert run("path").stdout.strip() == str(tmp_path / "history.db")
    assert json.loads(run("export", "-f", "json").stdout) == []
    assert run("forget", "--all").stdout == "0 turns forgotten\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "5"], "no turn 5"),
        (["forget"], "say what to forget"),
        (["forget", "1", "--all"], "say what to forget"),
        (["export", "--format", "pdf"], "no format 'pdf'; there are: markdown"),
        (["list", "--since", "soon"], "no time: 'soon'"),
        (["search", "??"], "nothing to search for"),
        (["show", "1", "--save-audio", "x.flac"], "was not kept"),
    ],
)
def test_a_mistake_is_one_clear_line(run, tmp_path, arguments, said):
    with HistoryStore(tmp_path / "history.db") as store:
        store.add(a_turn())
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_ask_keeps_only_when_told(run, turns, monkeypatch, tmp_path):
    monkeypatch.setattr(ask_command, "make_turns", lambda *_: turns)
    file = str(ROOT / "examples/crow.flac")
    ask_command.run([file], None, None, "default", False, False)
    assert not (tmp_path / "history.db").exists()
    ask_command.run([file, file], None, None, "default", False, False, keep=True)
    first, second = kept_in(tmp_path / "history.db")
    assert (first.session.device, first.answer, second.window.number) == (file, "hello there", 2)
    assert first.window.duration_s > 0.5


def test_a_history_nobody_closes_still_lets_the_program_end(profile, settings):
    writer = HistoryWriter(profile.model_copy(update={"history": settings}), lambda event: None)
    assert writer._worker._thread.daemon
    writer.close()
    assert not writer._worker._thread.is_alive()
