"""Every hook times every way to fail: no window and no token is lost, and the culprit is named."""

import inspect

import pytest

from assistant import hookspecs
from assistant.events import ErrorRaised, PluginPrinted, Responded, TokenGenerated
from assistant.hosting.results import HOOKS
from assistant.plugin_host import PluginHost
from assistant.profile import HookSettings, load
from assistant.turns import Turns
from tests.conftest import FakeCore, window

FAULTS = {
    "raises": "raise RuntimeError('boom')",
    "hangs": "time.sleep(2.0)",
    "returns the wrong type": "return object()",
    "returns gigabytes": "return 'x' * 500_000_000",
    "never stops yielding": "return itertools.count()",
    "calls sys.exit": "sys.exit(3)",
    "is a coroutine that raises": "return late()",
}
QUIET_FAULTS = {
    "prints": "print('noise'); sys.stderr.write('noise')",
    "mutates what it was given": "mutate(locals())",
}
SOURCE = """
import itertools, sys, time
from assistant import hookimpl

async def late():
    raise RuntimeError('boom')

def mutate(given):
    for value in given.values():
        for name in ("text", "instruction", "skill", "kind", "name", "settings"):
            try:
                object.__setattr__(value, name, "CHANGED")
            except (AttributeError, TypeError):
                pass
        for change in (lambda: value.samples.__setitem__(slice(None), 0.0), lambda: value.settings.update(x=1)):
            try:
                change()
            except (AttributeError, TypeError, ValueError):
                pass

@hookimpl
def {hook}({arguments}):
    open({log!r}, "a").write("{hook} ")
    {body}
"""
LIMITS = HookSettings(audio_ms=150, response_s=0.2, setup_s=0.5, hung_s=0.3)
REAL_HOOKS = [name for name in HOOKS if hasattr(getattr(hookspecs, name, None), "assistant_spec")]


class Stand:
    """Two windows, an error between them, a change of profile, commands, the end: every hook fires."""

    def __init__(self, folder, hook, body):
        folder.mkdir(exist_ok=True)
        arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters) if hook else ""
        self.log = folder / "log.txt"
        source = SOURCE.format(hook=hook, arguments=arguments, body=body, log=str(self.log)) if hook else body
        (folder / "bad.py").write_text(source)
        profile = load("default").model_copy(update={"hooks": LIMITS, "plugin_folders": (folder,)})
        self.reports, self.events = [], []
        host = PluginHost(profile, lambda name, message: self.reports.append((name, message)))
        self.turns = Turns(FakeCore(), host, profile)

    def drive(self):
        self.events += self.turns.answer(window())
        self.turns.host.error("microphone", "gone")
        if self.turns.host.plugins["bad"].disabled is None:
            self.turns.host.commands("bad")
        self.turns.switch(self.turns.profile.model_copy(update={"name": "other"}))
        self.events += self.turns.answer(window())
        self.turns.close()
        self.events += self.turns.host.calls.events

    def unharmed(self):
        answers = [event.response.text for event in self.events if isinstance(event, Responded)]
        tokens = [event.text for event in self.events if isinstance(event, TokenGenerated)]
        assert answers == ["hello there"] * 2
        assert tokens == ["hello ", "there"] * 2
        assert not [event for event in self.events if isinstance(event, ErrorRaised)]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", REAL_HOOKS)
def test_a_failing_plugin_loses_no_window_and_no_token_and_is_named(tmp_path, hook, fault):
    stand = Stand(tmp_path / "plugins", hook, FAULTS[fault])
    stand.drive()
    stand.unharmed()
    assert hook in stand.log.read_text()
    assert {name for name, _ in stand.reports} == {"bad"}
    assert any(hook in message or "hangs" in message for _, message in stand.reports), stand.reports


@pytest.mark.parametrize("hook", REAL_HOOKS)
def test_what_a_plugin_prints_stays_off_the_screen(tmp_path, hook, capsys):
    stand = Stand(tmp_path / "plugins", hook, QUIET_FAULTS["prints"])
    stand.drive()
    stand.unharmed()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert ("bad", "noise") in {(e.plugin, e.text) for e in stand.events if isinstance(e, PluginPrinted)}


@pytest.mark.parametrize("hook", REAL_HOOKS)
def test_a_plugin_cannot_change_what_it_was_given(tmp_path, hook):
    stand = Stand(tmp_path / "plugins", hook, QUIET_FAULTS["mutates what it was given"])
    stand.drive()
    stand.unharmed()
    instructions = {prompt.instruction for prompt in stand.turns.core.asked}
    assert len(instructions) == 1
    assert "CHANGED" not in instructions
    assert all(heard.window.samples.any() for heard in stand.turns.heard.values())


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('boom')", "import time; time.sleep(2)", "x = (", "import sys; sys.exit()"]
)
def test_a_plugin_that_fails_at_import_is_named_and_the_others_answer(tmp_path, body):
    stand = Stand(tmp_path / "plugins", None, body)
    assert "import" in stand.turns.host.plugins["bad"].disabled
    stand.drive()
    stand.unharmed()


def test_a_misspelt_hook_is_named_with_the_right_one(tmp_path):
    stand = Stand(
        tmp_path / "plugins", None, "from assistant import hookimpl\n@hookimpl\ndef claim_windows(window): ..."
    )
    assert "did you mean 'claim_window'" in stand.turns.host.plugins["bad"].disabled


def test_an_argument_that_does_not_exist_is_named(tmp_path):
    stand = Stand(tmp_path / "plugins", None, "from assistant import hookimpl\n@hookimpl\ndef claim_window(wave): ...")
    assert "wave" in stand.turns.host.plugins["bad"].disabled


def test_a_hanging_plugin_costs_its_budget_once_and_is_switched_off(tmp_path):
    body = "time.sleep(2.0)"
    stand = Stand(tmp_path / "plugins", "token_generated", body)
    stand.turns.core.words = ["a "] * 20
    (answer,) = [e for e in stand.turns.answer(window()) if isinstance(e, Responded)]
    assert answer.response.text == "a " * 19 + "a"
    assert answer.hook_ms["bad.token_generated"] < 1000 * 2 * LIMITS.audio_ms / 1000
    stand.turns.core.between = lambda: __import__("time").sleep(0.1)
    list(stand.turns.answer(window()))
    assert "hangs" in stand.turns.host.plugins["bad"].disabled
    assert stand.turns.host.plugins["bad"].strikes == 1


def test_many_good_calls_take_back_a_strike(tmp_path):
    body = "if state.setdefault('n', 0) == 0:\n        state['n'] = 1\n        raise RuntimeError('once')"
    stand = Stand(tmp_path / "plugins", "token_generated", body)
    stand.turns.core.words = ["a "] * 120
    list(stand.turns.answer(window()))
    assert stand.turns.host.plugins["bad"].strikes == 0


def test_every_hook_has_a_budget_a_check_and_a_fault_case():
    specs = {name for name, value in vars(hookspecs).items() if hasattr(value, "assistant_spec")}
    assert specs == set(HOOKS) == set(REAL_HOOKS)
