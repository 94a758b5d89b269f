"""Calls plugins one at a time, each within its time, folds what they return, and names the one that failed."""

from __future__ import annotations

import difflib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pluggy
from pydantic import ValidationError

from assistant import hookspecs
from assistant.errors import UserError
from assistant.events import PluginReloaded
from assistant.hosting.calls import Calls
from assistant.hosting.discovery import PluginState, discover, frozen, import_plugin
from assistant.hosting.results import HOOKS, WrongResultError
from assistant.profile import Profile
from assistant.records import AudioWindow, Command, Panel, Prompt, Response, SessionInfo, Skill, Turn

REFRESH_S = 1.0
Report = Callable[[str, str], None]  # plugin name, message
Claims = tuple[tuple[str, str, float], ...]  # plugin, skill, score
WINDOW_HOOKS = {"window_heard", "claim_window", "shape_prompt", "token_generated", "consume_response"}

__all__ = ["PluginHost", "PluginState", "discover"]


class PluginHost:
    """The plugins of one session. Whatever one of them does, the loop goes on. Not for several threads at once.

    Args:
        profile: its `plugins`, `plugin_folders`, `hooks`, `answer` and `language` are what the host goes by.
        report: told the name and what happened when a plugin fails.
        safe: leave out everything that is not bundled.
        before: the host whose session this one takes over; what was switched off there stays off.
    """

    def __init__(self, profile: Profile, report: Report, safe: bool = False, before: PluginHost | None = None) -> None:
        self._profile, self._report, self._safe = profile, report, safe or profile.safe
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._errors: deque[tuple[str, str]] = deque(maxlen=100)
        self.calls = Calls(profile.hooks, self._tell)
        self._refreshed = time.monotonic()
        self._session: SessionInfo | None = None
        self.mistakes: list[str] = []  # in the profile's settings of plugins
        self.plugins: dict[str, PluginState] = {}
        self.skills: dict[str, Skill] = {}
        self._owners: dict[str, str] = {}  # plugin by skill
        self._given: list[tuple[object, PluginState]] = []  # plugins that were not discovered
        known = before.plugins if before else {}
        for state in self._discover():
            _take_over(state, known.get(state.name))
            self._load(state)
        for plugin, state in before._given if before else ():
            self.register(plugin, state)

    def _discover(self) -> list[PluginState]:
        found = discover(self._profile.plugin_folders)
        return [state for state in found if state.bundled or not self._safe]

    def _load(self, state: PluginState) -> None:
        if state.name in self.plugins:
            self._report(state.name, f"is there twice; {state.path or state.module} is left out")
            return
        self.plugins[state.name] = state
        if state.disabled is not None:
            return
        module = self.calls.load(state, lambda: import_plugin(state))
        if module is not None:
            self._register(module, state)

    def register(self, plugin: object, state: PluginState) -> None:
        """Take a plugin into the session that is a module or an object at hand, as in tests."""
        self._given.append((plugin, state))
        self._register(plugin, state)

    def _register(self, plugin: object, state: PluginState) -> None:
        self.plugins[state.name] = state
        try:
            self._check_names(plugin)
            self._manager.register(plugin, state.name)
        except (pluggy.PluginValidationError, WrongResultError) as error:
            self.calls.disable(state, f"does not fit: {str(error).splitlines()[-1]}")
            return
        state.network = bool(getattr(plugin, "USES_NETWORK", False))
        callers = self._manager.get_hookcallers(plugin) or []
        state.hooks = sorted(caller.name for caller in callers)
        if self._take_settings(state):
            self._register_skills(state)

    def _check_names(self, plugin: object) -> None:
        for name in dir(plugin):
            if self._manager.parse_hookimpl_opts(plugin, name) is not None and name not in HOOKS:
                near = difflib.get_close_matches(name, HOOKS, n=1)
                raise WrongResultError(f"no hook {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))

    def _take_settings(self, state: PluginState) -> bool:
        """Validate the plugin's part of the profile; a mistake there is the user's, and is told as such."""
        values = self._profile.plugins.get(state.name, {})
        model = self._one(state, "settings_model", {})
        if state.disabled is not None:
            return False
        if model is None:
            state.settings = frozen(values)
            return True
        try:
            state.settings = model.model_validate(values)
        except ValidationError as error:
            self.mistakes.append(self._profile.explain(error, ("plugins", state.name), model))
            state.disabled = self.mistakes[-1]
            return False
        return True

    def _register_skills(self, state: PluginState) -> None:
        for skill in self._one(state, "register_skills", {}) or ():
            if skill.name in self.skills:
                self.calls.strike(state, f"registers the skill {skill.name!r}, which is taken")
            else:
                self.skills[skill.name], self._owners[skill.name] = skill, state.name

    def _implementations(self, hook: str) -> list[tuple[PluginState, Any]]:
        """In order of registration: the bundled ones first."""
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        return [(self.plugins[impl.plugin_name], impl) for impl in impls]

    def _one(self, state: PluginState, hook: str, arguments: dict[str, Any]) -> Any:
        """What one plugin's implementation of a hook returned, or None."""
        for owner, implementation in self._implementations(hook):
            if owner is state:
                return self.calls(state, implementation, hook, arguments)
        return None

    def _each(self, hook: str, arguments: dict[str, Any]) -> Iterator[tuple[PluginState, Any]]:
        for state, implementation in self._implementations(hook):
            value = self.calls(state, implementation, hook, arguments)
            if value is not None:
                yield state, value

    # -- the hooks, as the loop calls them ------------------------------------------------------------------------

    def skill(self, name: str) -> Skill:
        """The skill of that name.

        Raises:
            UserError: there is none; the names that exist are listed.
        """
        if name not in self.skills:
            off = sorted(state.name for state in self.plugins.values() if state.disabled is not None)
            gone = f"; plugins that are off: {', '.join(off)}" if off else ""
            raise UserError(f"no skill {name!r}; there are: {', '.join(sorted(self.skills))}{gone}")
        return self.skills[name]

    def skills_of(self, plugin: str) -> list[Skill]:
        """The skills that a plugin has registered."""
        return [skill for name, skill in self.skills.items() if self._owners.get(name) == plugin]

    def begin_turn(self, session: SessionInfo) -> None:
        """Before each window: changed files are read again, the first window starts the session, errors are told."""
        self.calls.hook_ms = {}
        self._refresh()
        if self._session is None:
            self._session = session
            self._all("session_started", {"session": session})
        self._deliver_errors()

    def heard(self, window: AudioWindow, turns: tuple[Turn, ...]) -> None:
        self._all("window_heard", {"window": window, "turns": turns})

    def claims(self, window: AudioWindow, turns: tuple[Turn, ...]) -> Claims:
        """Everybody's claims, the one that wins first: pinned, then ordered by the profile, then by score."""
        made = []
        for state, (name, score) in self._each("claim_window", {"window": window, "turns": turns}):
            if name not in self.skills:
                self.calls.strike(state, f"claim_window names the skill {name!r}, which does not exist")
            elif window.kind in self.skills[name].kinds:
                made.append((state.name, name, score))
        order = self._profile.answer.order
        rank = {name: i for i, name in enumerate(order)}
        return tuple(sorted(made, key=lambda claim: (rank.get(claim[1], len(order)), -claim[2])))

    def shape(self, window: AudioWindow, skill: Skill, prompt: Prompt, turns: tuple[Turn, ...] = ()) -> Prompt:
        shaped: Prompt = self._fold("shape_prompt", "prompt", prompt, window=window, skill=skill, turns=turns)
        return shaped

    def token(self, window: AudioWindow, skill: Skill, text: str) -> tuple[str, str | None]:
        """The piece as the plugins leave it, and the name of the plugin that ends the answer here, if one does."""
        arguments = {"window": window, "skill": skill}
        for state, implementation in self._implementations("token_generated"):
            said = self.calls(state, implementation, "token_generated", arguments | {"text": text})
            if isinstance(said, hookspecs.Stop):
                return "", state.name
            text = text if said is None else said
        return text, None

    def consume(self, window: AudioWindow, skill: Skill, response: Response, turns: tuple[Turn, ...] = ()) -> Response:
        consumed: Response = self._fold(
            "consume_response", "response", response, window=window, skill=skill, turns=turns
        )
        return consumed

    def panels(self, turns: tuple[Turn, ...]) -> list[tuple[str, Panel]]:
        return [(state.name, panel) for state, shown in self._each("panels", {"turns": turns}) for panel in shown]

    def commands(self, name: str) -> dict[str, Command]:
        """The commands of one plugin.

        Raises:
            UserError: no such plugin, or it is switched off.
        """
        if name not in self.plugins:
            raise UserError(f"no plugin {name!r}; there are: {', '.join(self.plugins)}")
        state = self.plugins[name]
        if state.disabled is not None:
            raise UserError(f"plugin {name} is off: {state.disabled}")
        return {command.name: command for command in self._one(state, "register_commands", {}) or ()}

    def switch(self, name: str, off: str | None) -> None:
        """Switch a plugin off by hand, for this reason, or on again; its skills go and come with it.

        Raises:
            UserError: its file is gone meanwhile.
        """
        state = self.plugins.get(name)
        if state is None:
            raise UserError(f"no plugin {name!r} any more")
        state.disabled, state.strikes = off, 0
        self.skills = {skill: each for skill, each in self.skills.items() if self._owners.get(skill) != name}
        if off is not None:
            return
        if self._manager.get_plugin(name) is None:  # it was off when this host began
            del self.plugins[name]
            self._load(state)
        else:
            self._register_skills(state)

    def error(self, source: str, message: str) -> None:
        """Note an error for the plugins; they are told before the next window. Safe from any thread."""
        self._errors.append((source, message))

    def succeeded_by(self, profile: Profile, skills: Iterable[str] = ()) -> PluginHost:
        """The host of another profile, which takes over this conversation; everybody is told.

        Args:
            skills: what the profile counts on: that they are there, or belong to a plugin that is off.

        Raises:
            UserError: the profile's settings of a plugin are wrong, or a skill is missing; this host stays in force.
        """
        successor = PluginHost(profile, self._report, self._safe, self)
        successor._owners = {**self._owners, **successor._owners}
        try:
            if successor.mistakes:
                raise UserError("\n".join(successor.mistakes))
            for name in skills:
                owner = successor.plugins.get(successor._owners.get(name, ""))
                if owner is None or owner.disabled is None:
                    successor.skill(name)
        except UserError:
            successor.close()
            raise
        successor.calls.memory, successor._session = self.calls.memory, self._session
        successor._errors.extend(self._errors)
        successor.calls.events.extendleft(reversed(self.calls.events))
        self.calls.close()
        successor._all("profile_changed", {"profile": profile.name})
        return successor

    def beside(self) -> PluginHost:
        """Another host of the same plugins, for a conversation beside this one; who is off here is off there, too."""
        return PluginHost(self._profile, self._report, self._safe, self)

    def close(self) -> None:
        """End the session: plugins are told, threads end when their last call has."""
        if self._session is not None:
            self._deliver_errors()
            self._all("session_stopped", {"session": self._session})
            self._session = None
        self.calls.close()

    def start_over(self) -> None:
        """End the session and forget the plugins' state; the next window starts another."""
        self.close()
        self.calls.memory.clear()

    def seen_by(self) -> tuple[str, ...]:
        """The plugins that were handed this turn's window."""
        pairs = (key.rsplit(".", 1) for key in self.calls.hook_ms)
        return tuple(sorted({plugin for plugin, hook in pairs if hook in WINDOW_HOOKS}))

    def uses_network(self, plugins: tuple[str, ...]) -> bool:
        """Whether one of them declares that it does (`USES_NETWORK = True` in its module)."""
        return any(self.plugins[name].network for name in plugins)

    def _tell(self, state: PluginState, message: str) -> None:
        self._report(state.name, message)
        self._errors.append((state.name, message))

    def _all(self, hook: str, arguments: dict[str, Any]) -> None:
        for _ in self._each(hook, arguments):
            pass

    def _fold(self, hook: str, key: str, value: Any, **arguments: Any) -> Any:
        """Each implementation sees what the one before it made."""
        for state, implementation in self._implementations(hook):
            changed = self.calls(state, implementation, hook, arguments | {key: value})
            value = value if changed is None else changed
        return value

    def _deliver_errors(self) -> None:
        """A plugin's own failures are not told to itself: it would fail again."""
        for _ in range(len(self._errors)):
            source, message = self._errors.popleft()
            for state, implementation in self._implementations("error_raised"):
                if state.name != source:
                    self.calls(state, implementation, "error_raised", {"source": source, "message": message})

    # -- single files, read again when they are saved ---------------------------------------------------------------

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed < REFRESH_S or not self._profile.plugin_folders:
            return
        self._refreshed = time.monotonic()
        found = {state.name: state for state in self._discover() if state.path is not None}
        for name, state in found.items():
            old = self.plugins.get(name)
            if old is None or (old.path is not None and old.modified != _modified(state)):
                self._forget(name)
                self._load(state)
                self.calls.events.append(PluginReloaded(plugin=name))
        for name in [name for name, state in self.plugins.items() if state.path is not None and name not in found]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Take a plugin out, with its skills; its conversation state stays for the one that is read in its place."""
        if self._manager.get_plugin(name) is not None:
            self._manager.unregister(name=name)
        if self.plugins.pop(name, None) is not None:
            self.calls.forget(name)
            self.skills, self._owners = {}, {}
            for state in self.plugins.values():
                self._register_skills(state)


def _take_over(state: PluginState, old: PluginState | None) -> None:
    """Failures count for the session, whatever its profile."""
    if old is not None:
        state.strikes, state.disabled, state.modified = old.strikes, old.disabled, old.modified


def _modified(state: PluginState) -> float:
    return state.path.stat().st_mtime if state.path is not None and state.path.exists() else 0.0
