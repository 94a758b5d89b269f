"""What authors get: recorded sessions replayed in a test, run by pytest in a process of its own."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from assistant.audio.vad import make_detector
from assistant.commands.keeping import keeping
from assistant.commands.scaffold import create
from assistant.plugin_host import PluginHost, PluginState
from assistant.profile import HistorySettings, load
from assistant.session import Session
from assistant.turns import Turns
from tests.conftest import ROOT, ArraySource, FakeCore, silence

NOTHING_KEPT = HistorySettings(keep_text=False)
REPLAYS = """
import counter


def test_the_recorded_session_is_the_same_again(assistant_loop):
    replayed = assistant_loop.replay("kitchen", counter)
    assert not replayed.changes
    (heard,) = replayed
    assert heard.skill == "counter"
    assert heard.prompt.instruction == "Transcribe the speech."
    assert heard.tokens == ["put the ", "kettle on"]
    assert heard.text == "put the kettle on (4 words)"
    assert heard.errors == []
    heard.within_ms(50)


def test_a_setting_changes_it(assistant_loop):
    replayed = assistant_loop.replay("kitchen", counter, settings={"counter": {"loudly": True}})
    ((then, now),) = [change["answer"] for change in replayed.changes]
    assert (then, now) == ("put the kettle on (4 words)", "PUT THE KETTLE ON (4 WORDS)")


def test_other_words_may_be_given(assistant_loop):
    assert assistant_loop.replay("kitchen", counter, words=["hello"])[0].text == "hello (1 words)"
"""
ASKS_ELSE = """
import counter
from dataclasses import replace
from assistant import hookimpl


class Other:
    @hookimpl
    def shape_prompt(self, prompt):
        return replace(prompt, instruction="Sing.")


def test_it(assistant_loop):
    assistant_loop.replay("kitchen", counter, Other())
"""


@pytest.fixture
def package(tmp_path):
    """A scaffolded plugin with a recording of its session."""
    folder = create("counter", tmp_path)
    spec = importlib.util.spec_from_file_location("counter", folder / "counter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer = load("default").answer.model_copy(update={"speech": "counter"})
    profile = load("default").model_copy(update={"answer": answer, "history": NOTHING_KEPT})
    host = PluginHost(profile, lambda name, said: pytest.fail(f"{name} {said}"))
    host.register(module, PluginState("counter", "", "", "counter", bundled=False))
    turns = Turns(FakeCore("put the ", "kettle on"), host, profile)
    with keeping(profile, ArraySource(speech()), lambda event: None, folder / "kitchen") as kept:
        kept.attach(turns)
        Session(kept.source, kept.tap(make_detector(profile.hearing)), turns, kept.emit).run()
    return folder


def speech():
    from assistant.audio.source import read_wave

    return np.concatenate((silence(1), read_wave(str(ROOT / "examples/phone-number.wav")), silence(1.5)))


def pytest_of(folder, test):
    (folder / "test_replayed.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_replayed.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_recorded_session_is_replayed_in_an_authors_test(package):
    done = pytest_of(package, REPLAYS)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_a_question_that_was_not_recorded_fails_the_test_and_says_what_to_do(package):
    done = pytest_of(package, ASKS_ELSE)
    assert done.returncode == 1
    assert "kitchen has no answer to 'Sing.'" in done.stdout
    assert "record it again" in done.stdout


def test_actions_are_told_but_not_done_in_a_replay(assistant_loop, package, tmp_path):
    from dataclasses import replace

    from assistant import Record, Write, hookimpl

    class Writes:
        @hookimpl
        def register_skills(self):
            from assistant import Skill

            return [Skill("counter", "", "Transcribe the speech.", frozenset({"speech"}))]

        @hookimpl
        def consume_response(self, response):
            return replace(response, actions=(Write("log.txt", "x"), Record("heard", {"n": 1})))

    (heard,) = assistant_loop.replay(package / "kitchen", Writes())
    assert heard.records == [{"name": "heard", "n": 1}]
    assert [event.kind for event in heard.events if event.name == "action"] == ["write", "record"]
    assert not (tmp_path / "data" / "log.txt").exists()
