"""What plugins show, print, do and break, as far as the screen tells of it."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from assistant.events import (
    ActionTaken,
    ErrorRaised,
    PanelsChanged,
    PluginDisabled,
    PluginPrinted,
    PluginReloaded,
)
from assistant.lines import one_line
from assistant.tui.screens import Panels, PluginOutput
from assistant.tui.services import Services
from assistant.tui.widgets import PanelBoard
from assistant.tui.window_actions import WindowActions
from assistant.tui.wording import Shown

PLUGIN_LINES = 1000


class PluginViews(WindowActions):
    """The part of the screen that belongs to plugins; they give data, and it is drawn here."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.panels: tuple[Shown, ...] = ()
        self.plugin_log: deque[str] = deque(maxlen=PLUGIN_LINES)
        self._complaints: dict[str, str] = {}  # the last one of each plugin

    def _show_error(self, event: ErrorRaised) -> None:
        self._complaints[event.source] = event.message
        if self._is_plugin(event.source):
            self._note(event.source, event.message)
        self.notify(event.message, title=event.source, severity="error", markup=False)

    def _is_plugin(self, name: str) -> bool:
        return bool(self.loop and self.loop.turns and name in self.loop.turns.host.plugins)

    def _show_disabled(self, event: PluginDisabled) -> None:
        title = f"plugin {event.plugin} is off for this session"
        told = self._complaints.get(event.plugin, "").endswith(event.reason)
        words = f"The palette (ctrl+p) switches it on again: Plugin: switch {event.plugin} on"
        self._note(event.plugin, f"off for this session: {event.reason}")
        self.notify(words if told else event.reason, title=title, severity="error", markup=False)

    def _show_reloaded(self, event: PluginReloaded) -> None:
        self._note(event.plugin, "read again: its file was saved")
        self.notify("its file was saved", title=f"plugin {event.plugin} was read again", markup=False)

    def _show_print(self, event: PluginPrinted) -> None:
        for line in event.text.splitlines():
            self._note(event.plugin, one_line(line))

    def _note(self, plugin: str, words: str) -> None:
        """A line for the view of the plugins' output."""
        self.plugin_log.append(f"{datetime.now():%H:%M:%S}  {plugin}  {words}")
        if isinstance(self.screen, PluginOutput):
            self.screen.add(self.plugin_log[-1])

    def _show_action(self, event: ActionTaken) -> None:
        if event.kind == "notify":
            self.notify(event.values["body"], title=event.values["title"], timeout=10, markup=False)

    def _show_panels(self, event: PanelsChanged) -> None:
        self.panels = event.panels
        self.query_one(PanelBoard).show(self.panels)
        if isinstance(self.screen, Panels):
            self.screen.show(self.panels)

    def _wipe(self, sure: bool | None) -> None:
        """Plugins may show and print what they heard: that goes, too."""
        super()._wipe(sure)
        if sure:
            self.plugin_log.clear()
            self._show_panels(PanelsChanged(panels=()))

    def action_panels(self) -> None:
        self.push_screen(Panels(self.panels))

    def action_plugin_output(self) -> None:
        self.push_screen(PluginOutput(self.plugin_log))
