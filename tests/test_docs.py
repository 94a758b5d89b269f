"""What the docs show is run."""

import re
import types

from assistant.events import Responded
from assistant.plugin_host import PluginState
from tests.conftest import ROOT, window


def test_the_skill_in_the_docs_works(turns, host):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/skills.md").read_text(), re.DOTALL).group(1)
    module = types.ModuleType("counting")
    exec(code, module.__dict__)
    host.register(module, PluginState("counting", "test", "0", "counting", bundled=False))
    (skill,) = module.register_skills()
    answer = next(e for e in turns.answer(window(), skill) if isinstance(e, Responded))
    assert answer.response.text == "hello there (2 words)"


def test_every_command_in_the_readme_exists(assistant):
    text = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"\bassistant (ask|listen|profiles|plugins|weights|devices|doctor|demo)\b", text))
    said = assistant("--help").stdout
    assert commands
    assert all(f"  {command} " in said for command in commands)


def test_every_file_that_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_keys_in_the_docs_are_the_keys_that_are_bound():
    from assistant.keys import KEYS

    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+) \|$", (ROOT / "docs/screen.md").read_text(), re.MULTILINE)
    assert rows == [(key.key, key.action, key.does) for key in KEYS]
