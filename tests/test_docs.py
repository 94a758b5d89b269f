"""What the docs show is run."""

import re

from tests.conftest import ROOT


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
