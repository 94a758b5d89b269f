"""The contract as its docs show it: every hook's example, the order of firing, the tutorial from start to end."""

import os
import re
import subprocess
import sys
import types
from dataclasses import replace

import pytest

from assistant import Ask, hookimpl, hookspecs
from assistant.hosting.results import HOOKS
from assistant.plugin_host import PluginState
from assistant.profile import load
from tests.conftest import ROOT

DOCS = (ROOT / "docs/plugins.md").read_text()
EXAMPLES = dict(re.findall(r"### `(\w+)`\n.*?```python\n(.*?)```", DOCS, re.DOTALL))


def test_every_hook_has_a_docs_section_with_an_example():
    assert set(EXAMPLES) == set(HOOKS)


@pytest.mark.parametrize("hook", EXAMPLES)
def test_the_example_of_each_hook_runs(hook, assistant_loop):
    module = types.ModuleType(f"example_{hook}")
    exec(EXAMPLES[hook], module.__dict__)
    loop = assistant_loop(module, words=["please ", "help"])
    name = f"example-{hook.replace('_', '-')}"
    assert loop.host.plugins[name].hooks == [hook]
    heard = [loop.hear(12.0, skill="transcribe"), loop.hear(12.0)]
    loop.host.commands(name)
    loop.turns.host.error("microphone", "gone")
    loop.hear(1.0)
    assert not [error for h in heard for error in h.errors]
    assert loop.host.plugins[name].disabled is None


def test_hooks_fire_in_the_order_that_the_docs_draw(assistant_loop):
    fired = []

    class Witness:
        @hookimpl
        def consume_response(self, response, turns):
            fired.append("consume_response")
            return replace(response, actions=(Ask(skill="transcribe"),)) if response.skill != "transcribe" else None

    def note(name):
        def implementation(self):
            fired.append(name)

        return hookimpl(implementation)

    for name in HOOKS:
        if name != "consume_response":
            setattr(Witness, name, note(name))
    loop = assistant_loop(Witness(), words=["word"])
    loop.hear(1.0)
    loop.turns.host.error("microphone", "gone")
    loop.hear(1.0, skill="transcribe")
    loop.turns.switch(loop.turns.profile)
    loop.turns.host.commands("witness")
    loop.turns.close()
    answer = ["shape_prompt", "token_generated", "consume_response"]
    assert fired == [
        *("settings_model", "register_skills", "session_started"),
        *("window_heard", "claim_window", *answer, *answer, "panels"),
        *("error_raised", "window_heard", *answer, "panels"),
        *("settings_model", "register_skills", "profile_changed", "register_commands"),
        "session_stopped",
    ]


def test_a_session_that_starts_says_where_it_is_heard(assistant_loop):
    told = []

    class Curious:
        @hookimpl
        def session_started(self, session):
            told.append(session.source)

    loop = assistant_loop(Curious(), words=["word"])
    loop.turns.session = replace(loop.turns.session, source="")  # as of a loop whose first window has to tell it
    loop.hear("examples/piano.flac")
    assert told == ["examples/piano.flac"]


def test_bundled_plugins_are_called_before_the_others(host):
    host.register(types.SimpleNamespace(), PluginState("aaa", "", "", "aaa", bundled=False))
    assert list(host.plugins)[-1] == "aaa"


def test_a_plugin_sees_its_settings_validated_with_file_line_and_key(tmp_path):
    from assistant.plugin_host import PluginHost

    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nplugins:\n  storytelling:\n    sentences: 3\n    styl: grim\n")
    host = PluginHost(load(str(path)), lambda name, message: None)
    assert host.mistakes == [f"{path}, line 5, plugins.storytelling.styl: no such key (did you mean 'style'?)"]
    path.write_text("extends: default\nplugins:\n  storytelling:\n    sentences: many\n")
    (mistake,) = PluginHost(load(str(path)), lambda name, message: None).mistakes
    assert mistake.startswith(f"{path}, line 4, plugins.storytelling.sentences: input should be a valid integer")


def test_a_file_that_is_saved_is_read_again_and_keeps_its_state(tmp_path, monkeypatch):
    from assistant import plugin_host
    from assistant.turns import Turns
    from tests.conftest import FakeCore, window

    monkeypatch.setattr(plugin_host, "REFRESH_S", 0.0)
    source = (
        "from dataclasses import replace\nfrom assistant import hookimpl\n@hookimpl\n"
        "def consume_response(response, state):\n"
        "    state['n'] = state.get('n', 0) + 1\n    return replace(response, text=f'{WORD} {{state[\"n\"]}}')\n"
    )
    file = tmp_path / "counter.py"
    file.write_text("WORD = 'one'\n" + source.replace("{{", "{").replace("}}", "}"))
    profile = load("default").model_copy(update={"plugin_folders": (tmp_path,)})
    host = plugin_host.PluginHost(profile, lambda name, message: None)
    turns = Turns(FakeCore(), host, profile)

    def said():
        events = list(turns.answer(window()))
        return [e.response.text for e in events if e.name == "response"], [e.name for e in events]

    assert said()[0] == ["one 1"]
    file.write_text("WORD = 'two'\n" + source.replace("{{", "{").replace("}}", "}"))
    os.utime(file, (1, 2))
    texts, names = said()
    assert texts == ["two 2"]
    assert "plugin_reloaded" in names
    file.unlink()
    assert said()[0] == ["hello there"]


def test_the_tutorial_works_from_start_to_end(tmp_path):
    """In an environment of its own that borrows this one's packages, so that nothing is left behind."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    # addsitedir and not the bare path: an editable install is found through a .pth file of its own.
    (site / "borrowed.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in packages))
    (environment / "bin" / "assistant").write_text(f'#!/bin/sh\nexec {environment}/bin/python -m assistant "$@"\n')
    (environment / "bin" / "assistant").chmod(0o755)
    text = (ROOT / "docs/tutorial.md").read_text()
    variables = os.environ | {
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
        "ASSISTANT_CONFIG": str(tmp_path / "config"),
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
    }
    folder = tmp_path
    shown = []
    for language, name, body in re.findall(r"```(\w+) ?([\w.]*)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            (tmp_path / "kettle" / name).write_text(body)
        if language == "sh":
            for command in body.strip().splitlines():
                if command.startswith("cd "):
                    folder = folder / command[3:]
                    continue
                done = subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True)
                assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
                shown.append(done.stdout)
    assert any("3 passed" in said for said in shown)
    assert any("skill kettle: Tells when the kettle boils" in said for said in shown)


def test_the_specs_say_when_they_fire():
    for name in HOOKS:
        assert "Fires" in getattr(hookspecs, name).__doc__
