"""Fakes before weights: a core that yields scripted tokens, a detector that follows the level."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.plugin_host import PluginHost
from assistant.profile import Profile, load
from assistant.records import FRAME_SAMPLES, SAMPLE_RATE, AudioWindow
from assistant.testing import FakeCore
from assistant.turns import Turns

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

# Read when Triton is imported, which torch may do long before a test asks: there is no GPU here to compile for.
os.environ["TRITON_INTERPRET"] = "1"


class _Loggers(dict[str, Any]):
    """pytest's `catching_logs` walks over all loggers while a thread of the test before may still import a module
    that makes one: "dictionary changed size during iteration", and the test that follows fails."""

    def values(self) -> list[Any]:  # type: ignore[override]
        return list(super().values())


logging.Logger.manager.loggerDict = _Loggers(logging.Logger.manager.loggerDict)


class LoudIsVoice:
    """Calls every frame above -40 dBFS voiced."""

    def is_speech(self, frame: np.ndarray) -> bool:
        return float(np.sqrt(np.mean(frame**2))) > 0.01


class NoVoice:
    def is_speech(self, frame: np.ndarray) -> bool:
        return False


class ArraySource:
    """A waveform as a source; `live` decides whether a full queue waits or drops."""

    name = "array"
    end = "end_of_file"

    def __init__(self, wave: np.ndarray, live: bool = False) -> None:
        self._wave, self.live = wave, live

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        for frame in self._wave[: len(self._wave) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES):
            if stopped():
                return
            yield frame

    def dropped(self) -> int:
        return 0


def tone(seconds: float, level: float = 0.2, hertz: float = 440.0) -> np.ndarray:
    at = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE)) * 1e-4).astype(np.float32)


def window(seconds: float = 1.0, kind: str = "speech") -> AudioWindow:
    return AudioWindow(1, tone(seconds), kind, 0.0, "silence", -17.0, "array")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own configuration or data."""
    monkeypatch.setenv("ASSISTANT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("ASSISTANT_DATA", str(tmp_path / "data"))


@pytest.fixture
def profile() -> Profile:
    return load("default")


@pytest.fixture
def reports() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def host(profile: Profile, reports: list[tuple[str, str]]) -> PluginHost:
    return PluginHost(profile, lambda name, message: reports.append((name, message)))


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def turns(core: FakeCore, host: PluginHost, profile: Profile) -> Turns:
    return Turns(core, host, profile)


@pytest.fixture
def assistant(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program as a user would, in a process of its own."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = (
            os.environ
            | {
                "ASSISTANT_CONFIG": str(tmp_path / "config"),
                "ASSISTANT_DATA": str(tmp_path / "data"),
            }
            | options.pop("env", {})
        )
        command = [sys.executable, "-m", "assistant", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **options)

    return run


def have_weights() -> bool:
    from salmonn_core.weights.sources import PARTS, cache_folder, is_complete

    return all(is_complete(cache_folder() / name) for name in PARTS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = None if have_weights() else pytest.mark.skip(reason="base weights absent; run: assistant weights pull")
    for item in items:
        if skip and item.get_closest_marker("weights"):
            item.add_marker(skip)


needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared is absent: reference vectors and audio pack")
