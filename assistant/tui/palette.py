"""What the command palette finds: profiles, skills, devices, plugins. Themes are Textual's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from assistant.hosting.discovery import PluginState
from assistant.profile import available

if TYPE_CHECKING:
    from assistant.tui.app import AssistantApp

BY_HAND = "switched off by you, until the end of the session"


def commands(app: AssistantApp) -> Iterator[SystemCommand]:
    """Everything but the themes, which the base class yields."""
    yield SystemCommand(
        "Plugin output", "What the plugins printed, and what happened to them", app.action_plugin_output
    )
    yield SystemCommand("Panels", "What the plugins show beside the conversation", app.action_panels)
    for name, file in available().items():
        yield SystemCommand(f"Profile: {name}", f"{file.path}", partial(app.action_switch_profile, name))
    for device in app.microphones:
        yield SystemCommand(f"Device: {device.name}", "Listen to it", partial(app.use_device, str(device.number)))
    host = app.loop.turns.host if app.loop and app.loop.turns else None
    if host is None:
        return
    for skill in host.skills.values():
        if "speech" in skill.kinds:
            yield SystemCommand(
                f"Skill for speech: {skill.name}", skill.description, partial(app.use_skill, skill.name)
            )
    for plugin in host.plugins.values():
        turn = "on again" if plugin.disabled else "off"
        said = plugin.disabled or f"{plugin.distribution} {plugin.version}".strip()
        yield SystemCommand(f"Plugin: switch {plugin.name} {turn}", said, partial(_toggle, app, plugin))


def _toggle(app: AssistantApp, plugin: PluginState) -> None:
    app.switch_plugin(plugin.name, None if plugin.disabled else BY_HAND)
