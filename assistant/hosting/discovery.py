"""Which plugins there are, and where: from metadata and file names alone, nothing is imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assistant.hosting.switches import switched_off

GROUP = "assistant"
LOCAL = "assistant_local"
HOUSE = "listening-assistant"


@dataclass
class PluginState:
    """One plugin: where it comes from and whether it is in use.

    Attributes:
        name: what profiles and lists call it.
        distribution, version: the package that brought it; empty for a single file.
        module: what is imported.
        bundled: whether it is the assistant's own.
        path: the file of a plugin that is a single file.
        network: whether it declares that it uses the network (`USES_NETWORK = True`).
        disabled: why it is not in use, or None.
        strikes: failures that count, fewer again after many calls that went well.
        hooks: the hooks that it implements.
        settings: its part of the profile, validated by its own model if it has one.
    """

    name: str
    distribution: str
    version: str
    module: str
    bundled: bool
    path: Path | None = None
    network: bool = False
    disabled: str | None = None
    strikes: int = 0
    well: int = 0
    hooks: list[str] = field(default_factory=list)
    settings: Any = field(default_factory=lambda: MappingProxyType({}))
    modified: float = 0.0


def discover(folders: Iterable[Path] = ()) -> list[PluginState]:
    """Every plugin: the bundled ones, those of installed packages, the single files of some folders."""
    found = [*_installed(), *_files(folders)]
    for state in found:
        if state.name in switched_off():
            state.disabled = f"switched off by you (assistant plugins enable {state.name})"
    return sorted(found, key=lambda plugin: (not plugin.bundled, plugin.name))


def _installed() -> Iterable[PluginState]:
    for entry in metadata.entry_points(group=GROUP):
        owner = entry.dist
        name, version = (owner.name, owner.version) if owner else ("", "")
        bundled = name == HOUSE
        yield PluginState(entry.name.replace("_", "-"), name, version, entry.value, bundled)


def _files(folders: Iterable[Path]) -> Iterable[PluginState]:
    for folder in folders:
        for path in sorted(folder.expanduser().glob("*.py")):
            if not path.name.startswith(("_", "test_", "conftest")):
                name = path.stem.replace("_", "-")
                yield PluginState(name, "", "", f"{LOCAL}.{path.stem}", bundled=False, path=path)


def import_plugin(state: PluginState) -> Any:
    """The plugin's module, freshly read if it is a single file. May raise or take as long as it likes."""
    if state.path is None:
        return importlib.import_module(state.module)
    state.modified = state.path.stat().st_mtime
    spec = importlib.util.spec_from_file_location(state.module, state.path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{state.path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[state.module] = module  # dataclasses and pydantic look their module up there
    # Compiled here: the bytecode cache goes by seconds and size, and a quick edit may change neither.
    exec(compile(state.path.read_text(encoding="utf-8"), state.path, "exec"), module.__dict__)
    return module


def frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a plugin without a model, so that it cannot change them."""
    return MappingProxyType(dict(values))
