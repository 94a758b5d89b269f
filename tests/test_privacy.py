"""What docs/privacy.md and docs/history.md promise."""

import json
import re
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from assistant.cli import app
from assistant.commands.keeping import keeping
from assistant.events import ErrorRaised, Responded
from assistant.history import history_path
from assistant.profile import HistorySettings, available, load
from assistant.session import Session
from tests.conftest import ROOT, ArraySource, LoudIsVoice
from tests.test_recording import THREE_SAYINGS

DOCS = "".join((ROOT / "docs" / name).read_text() for name in ("history.md", "privacy.md"))
NETWORK = re.compile(r"^\s*(?:import|from) (socket|ssl|http|urllib|requests|httpx|aiohttp|websockets?)\b", re.MULTILINE)
NO_NETWORK = """
import json, os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        os.write(2, f"NETWORK {event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(watch)
from assistant.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.mark.parametrize("name", [name for name, file in available().items() if file.origin == "bundled"])
def test_every_bundled_profile_keeps_text_for_30_days_and_no_sound(name):
    assert load(name).history == HistorySettings(keep_text=True, keep_audio=False, days=30, path=None)


def test_the_file_is_where_the_page_says(monkeypatch, tmp_path):
    monkeypatch.delenv("ASSISTANT_DATA", raising=False)
    if sys.platform == "linux":
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert history_path(HistorySettings()) == tmp_path / ".local/share/listening-assistant/history.db"
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path))
    assert history_path(HistorySettings()) == tmp_path / "history.db"


def test_every_command_on_the_pages_exists():
    commands = re.findall(r"^assistant (.+)$", DOCS, re.MULTILINE)
    assert len(commands) > 10
    for command in commands:
        words = [word for word in command.split() if re.fullmatch(r"[a-z]+|--[a-z-]+", word)]
        name = words[:2] if words[0] == "history" else words[:1]
        options = [word for word in words if word.startswith("--")]
        said = CliRunner().invoke(app, [*name, "--help"], terminal_width=200)
        assert said.exit_code == 0, command
        assert all(option in said.stdout for option in options), command


def test_a_session_on_default_settings_writes_one_file_and_connects_to_nothing(profile, turns, monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a connection")

    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    events = []
    with keeping(profile, ArraySource(THREE_SAYINGS), events.append) as kept:
        Session(kept.source, kept.tap(LoudIsVoice()), turns, kept.emit).run()
    assert sum(isinstance(e, Responded) for e in events) == 3
    assert not [e for e in events if isinstance(e, ErrorRaised)]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["data", "data/history.db"]
    assert b"fLaC" not in (tmp_path / "data/history.db").read_bytes()


def test_nothing_but_the_webhook_that_a_profile_names_has_a_way_out():
    ways_out = {
        path.relative_to(ROOT).as_posix()
        for folder in ("assistant", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if NETWORK.search(path.read_text())
    }
    assert ways_out == {"plugins/slot_filling.py"}


@pytest.mark.weights
def test_the_real_program_listens_answers_and_replays_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))
    folder, file = str(tmp_path / "rec"), ROOT / "examples/please-try-later.wav"

    commands = [
        ["listen", "-i", "-", "--record", folder],
        ["replay", folder],
        ["replay", folder, "--live"],
        ["history", "show", "1"],
    ]
    with file.open("rb") as stdin:
        command = [sys.executable, "-c", NO_NETWORK, json.dumps(commands)]
        result = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("1 window: identical\n") == 2
    assert re.search(r"answer    \S", result.stdout)
