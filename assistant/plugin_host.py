"""Finds plugins, calls them one at a time, and names the one that failed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeVar

import pluggy

from assistant import hookspecs
from assistant.errors import UserError
from assistant.records import AudioWindow, HookRecorder, Prompt, Response, Skill

STRIKES = 3
T = TypeVar("T")
Report = Callable[[str, str], None]  # plugin name, message


@dataclass
class PluginState:
    """One plugin: where it comes from and whether it is in use."""

    name: str
    distribution: str
    version: str
    module: str
    bundled: bool
    disabled: str | None = None  # the reason
    strikes: int = 0
    hooks: list[str] = field(default_factory=list)


def discover() -> list[PluginState]:
    """Every installed plugin, from metadata alone: nothing is imported."""
    found = []
    for entry in metadata.entry_points(group=hookspecs.PROJECT):
        owner = entry.dist
        found.append(
            PluginState(
                name=entry.name.replace("_", "-"),
                distribution=owner.name if owner else "",
                version=owner.version if owner else "",
                module=entry.value,
                bundled=entry.value.startswith("assistant_plugins."),
            )
        )
    return sorted(found, key=lambda plugin: (not plugin.bundled, plugin.name))


class PluginHost:
    """The plugins of one session. A plugin can raise, and the loop goes on.

    Args:
        settings: each plugin's part of the profile, by name.
        report: told the name and what happened when a plugin fails.
        safe: leave out everything that is not bundled.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], report: Report, safe: bool = False) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._settings, self._report = settings, report
        self.recorder: HookRecorder | None = None
        self.plugins: dict[str, PluginState] = {}
        for state in discover():
            if not (safe and not state.bundled):
                self._load(state)
        self.skills = self._register_skills()

    def _load(self, state: PluginState) -> None:
        self.plugins[state.name] = state
        try:
            self.register(importlib.import_module(state.module), state)
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way at import; it is named
            state.disabled = f"failed at import: {error}"
            self._report(state.name, state.disabled)

    def register(self, plugin: object, state: PluginState) -> None:
        """Take a plugin object into the session; tests use it directly."""
        self.plugins[state.name] = state
        self._manager.register(plugin, state.name)
        callers = self._manager.get_hookcallers(plugin) or []
        state.hooks = sorted(caller.name for caller in callers)

    def _calls(self, hook: str, arguments: dict[str, Any]) -> Iterator[tuple[PluginState, Any]]:
        """Call each implementation alone, in order of registration; yield what it returned."""
        caller = getattr(self._manager.hook, hook)
        for implementation in caller.get_hookimpls():
            state = self.plugins[implementation.plugin_name]
            if state.disabled is None:
                yield state, self._call(state, implementation, hook, arguments)

    def _call(self, state: PluginState, implementation: Any, hook: str, arguments: dict[str, Any]) -> Any:
        try:
            result = implementation.function(*(arguments[name] for name in implementation.argnames))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises, it is named and counted
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._strike(state, f"failed in {hook}: {said}")
            return None
        if self.recorder is not None:
            self.recorder(state.name, hook, arguments, result)
        return result

    def _strike(self, state: PluginState, message: str) -> None:
        state.strikes += 1
        if state.strikes >= STRIKES:
            state.disabled = f"{message} (switched off after {STRIKES} failures)"
            message = state.disabled
        self._report(state.name, message)

    def _register_skills(self) -> dict[str, Skill]:
        skills: dict[str, Skill] = {}
        caller = self._manager.hook.register_skills
        for implementation in caller.get_hookimpls():
            state = self.plugins[implementation.plugin_name]
            arguments = {"settings": self._settings.get(state.name, {})}
            for skill in self._call(state, implementation, "register_skills", arguments) or ():
                if skill.name in skills:
                    self._strike(state, f"registers the skill {skill.name!r}, which is taken")
                    continue
                skills[skill.name] = skill
        return skills

    def skill(self, name: str) -> Skill:
        """The skill of that name.

        Raises:
            UserError: there is none; the names that exist are listed.
        """
        if name not in self.skills:
            raise UserError(f"no skill {name!r}; there are: {', '.join(sorted(self.skills))}")
        return self.skills[name]

    def claim(self, window: AudioWindow) -> str | None:
        """The name of the skill with the highest claim, or None if nobody wants the window."""
        claims = []
        for state, claim in self._calls("claim_window", {"window": window}):
            if claim is None:
                continue
            if isinstance(claim, tuple) and len(claim) == 2 and claim[0] in self.skills:
                claims.append((float(claim[1]), str(claim[0])))
            else:
                self._strike(state, f"claim_window must return (skill name, score), not {claim!r}")
        return max(claims)[1] if claims else None

    def shape(self, window: AudioWindow, skill: Skill, prompt: Prompt) -> Prompt:
        return self._fold("shape_prompt", Prompt, "prompt", prompt, {"window": window, "skill": skill})

    def token(self, window: AudioWindow, skill: Skill, text: str) -> None:
        for _ in self._calls("token_generated", {"window": window, "skill": skill, "text": text}):
            pass

    def consume(self, window: AudioWindow, skill: Skill, response: Response) -> Response:
        return self._fold("consume_response", Response, "response", response, {"window": window, "skill": skill})

    def _fold(self, hook: str, kind: type[T], key: str, value: T, arguments: dict[str, Any]) -> T:
        """Each implementation sees what the one before it made."""
        caller = getattr(self._manager.hook, hook)
        for implementation in caller.get_hookimpls():
            state = self.plugins[implementation.plugin_name]
            if state.disabled is not None:
                continue
            result = self._call(state, implementation, hook, arguments | {key: value})
            if isinstance(result, kind):
                value = result
            elif result is not None:
                self._strike(state, f"{hook} must return {kind.__name__} or None, not {type(result).__name__}")
        return value
