"""`assistant plugins`: what there is, what it is set to, on and off, in and out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from assistant.commands.output import print_json, print_rows
from assistant.errors import UserError
from assistant.hosting.discovery import PluginState, discover
from assistant.hosting.switches import failures, switch
from assistant.plugin_host import PluginHost
from assistant.profile import load


def list_all(profile: str, as_json: bool) -> None:
    """From metadata and file names alone: nothing is imported."""
    failed = failures()
    rows = [
        {
            "name": plugin.name,
            "from": _origin(plugin),
            "version": plugin.version,
            "state": plugin.disabled or _last(failed.get(plugin.name)),
        }
        for plugin in discover(load(profile).plugin_folders)
    ]
    print_rows(rows, as_json)


def _origin(plugin: PluginState) -> str:
    return "bundled" if plugin.bundled else plugin.distribution or str(plugin.path)


def _last(reason: str | None) -> str:
    return f"on; last time: {reason}" if reason else "on"


def show(name: str, profile: str, as_json: bool) -> None:
    """One plugin: its hooks, its skills, its settings with what each means."""
    host, reports = _host(profile)
    state = _known(name, host)
    skills = host.skills_of(name)
    if as_json:
        print_json({"name": name, "hooks": state.hooks, "skills": [s.name for s in skills], "settings": _values(state)})
        return
    print(f"{name}: {_origin(state)} {state.version}".rstrip())
    print(f"state: {state.disabled or 'on'}")
    print(f"hooks: {', '.join(state.hooks) or 'none'}")
    for skill in skills:
        print(f"skill {skill.name}: {skill.description} (hears {', '.join(sorted(skill.kinds))})")
    rows = _settings_rows(state)
    if rows:
        print(f"\nsettings (profile: plugins: {name}: ...)")
        print_rows(rows, as_json=False)
    for said in reports:
        print(said, file=sys.stderr)


def _values(state: PluginState) -> dict[str, Any]:
    dump = getattr(state.settings, "model_dump", None)
    return dict(dump(mode="json")) if dump else dict(state.settings)


def _settings_rows(state: PluginState) -> list[dict[str, Any]]:
    fields = getattr(type(state.settings), "model_fields", {})
    values = _values(state)
    return [
        {
            "key": field.alias or name,
            "value": values[name],
            "type": str(getattr(field.annotation, "__name__", field.annotation)).removeprefix("typing."),
            "meaning": field.description or "",
        }
        for name, field in fields.items()
    ]


def set_state(name: str, profile: str, on: bool) -> None:
    """Switch a plugin on or off for all sessions from the next start on."""
    names = [plugin.name for plugin in discover(load(profile).plugin_folders)]
    if name not in names:
        raise UserError(f"no plugin {name!r}; there are: {', '.join(names)}")
    switch(name, on)
    print(f"{name} is {'on' if on else 'off'} from the next start on")


def run_command(name: str, command: str | None, words: list[str], profile: str) -> None:
    """Run a command that a plugin brings; without one, list them."""
    host, _ = _host(profile)
    commands = host.commands(name)
    if command is None:
        print_rows([{"command": c.name, "help": c.help} for c in commands.values()], as_json=False)
        return
    if command not in commands:
        there = ", ".join(commands) or "none"
        raise UserError(f"plugin {name} has no command {command!r}; there are: {there}")
    try:
        said = commands[command].run(words)
    except Exception as error:
        raise UserError(f"plugin {name}: command {command} failed: {type(error).__name__}: {error}") from error
    if said:
        print(said)


def install(requirement: str, upgrade: bool, editable: bool) -> None:
    """pip, for the environment that the assistant runs in."""
    folder = Path(requirement).expanduser()
    if folder.is_dir():  # pip takes a bare name for that of a stranger's package, even if the folder is there
        requirement = str(folder.resolve())
    elif editable:
        raise UserError(f"--editable takes a plugin's folder, and {requirement} is none")
    _pip("install", *(["--upgrade"] if upgrade else []), *(["--editable"] if editable else []), requirement)


def uninstall(distribution: str) -> None:
    """Take a plugin's package out again.

    Raises:
        UserError: it is no plugin's package, or the assistant's own.
    """
    packages = {p.distribution for p in discover() if p.distribution and not p.bundled}
    by_name = {p.name: p.distribution for p in discover() if p.distribution and not p.bundled}
    package = by_name.get(distribution, distribution)
    if package not in packages:
        raise UserError(f"no installed plugin {distribution!r}; there are: {', '.join(sorted(packages)) or 'none'}")
    _pip("uninstall", "--yes", package)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False)
    if done.returncode:
        raise UserError(f"pip {arguments[0]} failed (exit {done.returncode}); what it said is above")


def _host(profile: str) -> tuple[PluginHost, list[str]]:
    reports: list[str] = []
    host = PluginHost(load(profile), lambda plugin, said: reports.append(f"assistant: plugin {plugin} {said}"))
    return host, reports


def _known(name: str, host: PluginHost) -> PluginState:
    if name not in host.plugins:
        raise UserError(f"no plugin {name!r}; there are: {', '.join(host.plugins)}")
    return host.plugins[name]
