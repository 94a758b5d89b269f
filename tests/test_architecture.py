"""The arrows between the rooms, each checked in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def imported_by(statement):
    code = f"import sys\n{statement}\nprint(' '.join(sorted(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_library_never_imports_the_assistant():
    assert "assistant" not in imported_by("from salmonn_core import Salmonn, GenerationOptions")


@pytest.mark.parametrize("module", ["assistant", "assistant.cli", "assistant.session", "assistant.plugin_host"])
def test_no_torch_at_import(module):
    assert not {"torch", "transformers", "textual", "sounddevice"} & imported_by(f"import {module}")


@pytest.mark.parametrize(
    ("name", "room"), [("textual", "assistant/tui"), ("sounddevice", "assistant/audio/devices.py")]
)
def test_one_room_imports_it(name, room):
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("assistant", "salmonn_core", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(rf"^\s*(import|from) {name}\b", path.read_text(), re.MULTILINE)
    ]
    assert users
    assert all(user.startswith(room) for user in users)


def test_nothing_downloaded_is_unpickled():
    for path in Path(ROOT / "salmonn_core").rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text
        assert all("weights_only=True" in line for line in text.splitlines() if "torch.load(" in line)
