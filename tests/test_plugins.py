"""Plugins: found without import, called one at a time, named when they fail; and the bundled skills."""

import os
import re
import subprocess
from dataclasses import replace

import pytest

from assistant import STOP, Prompt, Response, Skill, Timings, hookimpl
from assistant.commands.plugins import install
from assistant.commands.scaffold import create
from assistant.errors import UserError
from assistant.events import Responded, TurnStarted
from assistant.plugin_host import PluginHost, PluginState, discover
from assistant.profile import load
from assistant.turns import Turns
from tests.conftest import ROOT, window


def state(name):
    return PluginState(name, "test", "0", "test", bundled=False)


class Shouting:
    @hookimpl
    def consume_response(self, response):
        return replace(response, text=response.text.upper())


class Broken:
    @hookimpl
    def shape_prompt(self, prompt):
        raise RuntimeError("boom")

    @hookimpl
    def token_generated(self, text):
        raise RuntimeError("boom")


class Lying:
    @hookimpl
    def consume_response(self, response):
        return "not a response"


class Claiming:
    def __init__(self, skill, score):
        self._claim = (skill, score)

    @hookimpl
    def claim_window(self, window):
        return self._claim


def test_the_bundled_skills_come_by_entry_point_and_are_listed_without_import():
    skills = {path.stem for path in (ROOT / "plugins").glob("*.py") if "register_skills" in path.read_text()}
    assert {p.name for p in discover() if p.bundled} == {name.replace("_", "-") for name in skills}


def test_a_plugin_consumes_the_response(turns, host):
    host.register(Shouting(), state("shouting"))
    answer = next(e for e in turns.answer(window()) if isinstance(e, Responded))
    assert answer.response.text == "HELLO THERE"


def test_a_plugin_that_raises_loses_no_token_is_named_and_after_three_failures_switched_off(turns, host, reports):
    host.register(Broken(), state("broken"))
    answer = next(e for e in turns.answer(window()) if isinstance(e, Responded))
    assert answer.response.text == "hello there"
    assert len(reports) == 3
    assert {name for name, _ in reports} == {"broken"}
    assert "switched off" in host.plugins["broken"].disabled
    list(turns.answer(window()))
    assert len(reports) == 3


def test_a_plugin_that_returns_the_wrong_type_is_ignored_and_named(turns, host, reports):
    host.register(Lying(), state("lying"))
    answer = next(e for e in turns.answer(window()) if isinstance(e, Responded))
    assert answer.response.text == "hello there"
    assert reports == [("lying", "consume_response must return Response or None, not str")]


def test_the_highest_claim_answers(turns, host):
    host.register(Claiming("describe", 0.2), state("low"))
    host.register(Claiming("storytelling", 0.9), state("high"))
    started = next(e for e in turns.answer(window()) if isinstance(e, TurnStarted))
    assert started.skill == "storytelling"
    assert started.claims == (("high", "storytelling", 0.9), ("low", "describe", 0.2))


def test_a_profile_pins_generation_settings_over_the_skill(core, host):
    profile = load("default")
    generation = profile.generation.model_copy(update={"lora_scale": 0.5})
    turns = Turns(core, host, profile.model_copy(update={"generation": generation}))
    list(turns.answer(window()))
    assert core.asked[0].settings.lora_scale == 0.5


def with_settings(plugins):
    return load("default").model_copy(update={"plugins": plugins})


def slot_host(schema, reports=None):
    report = (lambda n, m: reports.append((n, m))) if reports is not None else (lambda n, m: None)
    return PluginHost(with_settings({"slot-filling": {"schema": schema, "grounded": False}}), report)


def fill(host, text):
    skill = host.skill("slot-filling")
    prompt = host.shape(window(), skill, Prompt(skill.instruction))
    response = Response(text, skill.name, prompt, 1, Timings(), tokens=9)
    return prompt, host.consume(window(), skill, response)


def test_slot_filling_emits_a_typed_record_that_fits_the_schema():
    host = slot_host({"room": ["kitchen", "hall"], "level": "integer", "on": "boolean", "who": "text"})
    prompt, response = fill(host, '{"room": "hall", "level": 7, "on": true, "who": null}')
    assert response.slots == {"room": "hall", "level": 7, "on": True, "who": None}
    import regex

    assert regex.fullmatch(prompt.settings.pattern, response.text)
    assert not regex.fullmatch(prompt.settings.pattern, response.text.replace("hall", "attic"))


def test_a_cut_off_record_is_an_error_not_an_invalid_record():
    reports = []
    host = slot_host({"who": "text"}, reports)
    _, response = fill(host, '{"who": "an')
    assert response.slots is None
    assert "cut off" in reports[0][1]


@pytest.mark.parametrize("schema", [{}, {"when": "moment"}, "date", {"who": []}])
def test_a_wrong_schema_names_what_is_wrong(schema):
    assert "plugins.slot-filling.schema" in slot_host(schema).mistakes[0]


def test_a_story_ends_with_a_whole_sentence(host):
    skill = host.skill("storytelling")
    told = Response("A dog barked. It ran away. Then the", skill.name, Prompt(""), 1, Timings())
    assert host.consume(window(), skill, told).text == "A dog barked. It ran away."


def test_a_skill_is_described_for_lists(host):
    assert all(isinstance(s, Skill) and s.description for s in host.skills.values())


class Stopping:
    @hookimpl
    def token_generated(self, text):
        return STOP if text == "there" else text.replace("hello", "h****")


def test_a_plugin_may_change_words_and_end_the_answer(turns, host):
    host.register(Stopping(), state("stopping"))
    answer = next(e for e in turns.answer(window()) if isinstance(e, Responded))
    assert (answer.response.text, answer.response.end) == ("h****", "stopped")


@pytest.mark.parametrize(
    ("answer", "winner"),
    [
        ({"order": ("describe", "storytelling")}, "describe"),
        ({"pin": "captions"}, "captions"),
        ({"pin": "music"}, "storytelling"),  # it does not accept speech
    ],
)
def test_a_profile_pins_or_orders_the_skills_over_their_claims(core, answer, winner):
    profile = load("default")
    profile = profile.model_copy(update={"answer": profile.answer.model_copy(update=answer)})
    host = PluginHost(profile, lambda name, message: None)
    host.register(Claiming("describe", 0.2), state("low"))
    host.register(Claiming("storytelling", 0.9), state("high"))
    started = next(e for e in Turns(core, host, profile).answer(window()) if isinstance(e, TurnStarted))
    assert started.skill == winner


def test_a_plugin_that_was_switched_off_stays_off_under_another_profile(turns, host):
    host.register(Broken(), state("broken"))
    list(turns.answer(window()))
    turns.switch(turns.profile.model_copy(update={"name": "other"}))
    assert "switched off" in turns.host.plugins["broken"].disabled


def test_a_file_that_failed_stays_off_under_another_profile_until_it_is_saved(tmp_path, core, monkeypatch):
    from assistant import plugin_host

    monkeypatch.setattr(plugin_host, "REFRESH_S", 0.0)
    file = tmp_path / "bad.py"
    file.write_text("raise RuntimeError('boom')")
    profile = load("default").model_copy(update={"plugin_folders": (tmp_path,)})
    reports = []
    turns = Turns(core, PluginHost(profile, lambda name, said: reports.append(said)), profile)
    turns.switch(profile)
    list(turns.answer(window()))
    assert reports == ["failed at import: RuntimeError: boom (bad.py, line 1)"]
    file.write_text("")
    os.utime(file, (1, 2))
    list(turns.answer(window()))
    assert turns.host.plugins["bad"].disabled is None


def test_a_failure_names_the_line(turns, host, reports):
    host.register(Broken(), state("broken"))
    list(turns.answer(window()))
    assert re.search(r"failed in shape_prompt: RuntimeError: boom \(test_plugins.py, line \d+\)", reports[0][1])


def test_listing_imports_nothing(assistant, tmp_path):
    folder = tmp_path / "skills"
    folder.mkdir()
    (folder / "loud.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    (tmp_path / "mine.yaml").write_text(f"extends: default\nplugin_folders: [{folder}]\n")
    listed = assistant("plugins", "list", "--profile", str(tmp_path / "mine.yaml"))
    assert "loud" in listed.stdout
    assert not (tmp_path / "imported").exists()
    assert assistant("plugins", "show", "loud", "--profile", str(tmp_path / "mine.yaml")).returncode == 0
    assert (tmp_path / "imported").exists()


def test_a_plugins_command_that_fails_is_one_line(assistant, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from assistant import Command, hookimpl\n@hookimpl\ndef register_commands():\n"
        "    return [Command('go', '', lambda words: 1 / 0)]\n"
    )
    (tmp_path / "mine.yaml").write_text(f"extends: default\nplugin_folders: [{tmp_path}]\n")
    done = assistant("plugins", "run", "bad", "go", "--profile", str(tmp_path / "mine.yaml"))
    assert done.returncode == 1
    assert done.stderr == "assistant: plugin bad: command go failed: ZeroDivisionError: division by zero\n"


@pytest.fixture
def pip(monkeypatch):
    """What pip would be told."""
    told = []

    def run(command, check):
        told.append(command[3:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("assistant.commands.plugins.subprocess.run", run)
    return told


def test_a_folder_is_installed_and_not_a_strangers_package_of_its_name(pip, tmp_path, monkeypatch):
    create("kettle", tmp_path)
    monkeypatch.chdir(tmp_path)
    install("kettle", upgrade=False, editable=True)
    install("kettle-skill>=1", upgrade=True, editable=False)
    assert pip == [["install", "--editable", str(tmp_path / "kettle")], ["install", "--upgrade", "kettle-skill>=1"]]


def test_only_a_folder_can_be_editable(pip):
    with pytest.raises(UserError, match="takes a plugin's folder"):
        install("kettle", upgrade=False, editable=True)
    assert pip == []


@pytest.mark.parametrize(
    ("name", "complaint"), [("Kettle", "no name for a plugin"), ("captions", "already"), ("json", "Python module")]
)
def test_a_new_plugin_takes_nobodys_name(tmp_path, name, complaint):
    with pytest.raises(UserError, match=complaint):
        create(name, tmp_path)
    assert not any(tmp_path.iterdir())
