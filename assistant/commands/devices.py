"""`assistant devices`: list the microphones, test one, watch it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from assistant.audio.background import level_dbfs
from assistant.audio.devices import input_devices
from assistant.audio.level_report import report
from assistant.audio.microphone import MicrophoneSource
from assistant.commands.output import print_json, print_rows
from assistant.errors import UserError
from assistant.events import DeviceStateChanged
from assistant.records import FRAME_S

TEST_S = 3.0
METER_FROM_DBFS, METER_CELLS = -70.0, 40


def run(wanted: str | None, test: bool, watch: bool, seconds: float | None, as_json: bool) -> None:
    if test and watch:
        raise UserError("--test and --watch exclude each other")
    if test:
        test_level(wanted, seconds or TEST_S, as_json)
    elif watch:
        watch_state(wanted, seconds, as_json)
    elif wanted is not None or seconds is not None:
        raise UserError("INPUT and --seconds go with --test or --watch")
    else:
        list_all(as_json)


def list_all(as_json: bool) -> None:
    devices = input_devices()
    if not devices and not as_json:
        raise UserError("no input device was found: plug in a microphone, or use --input FILE")
    print_rows((asdict(device) for device in devices), as_json)


def watch_state(wanted: str | None, seconds: float | None, as_json: bool) -> None:
    """Print what becomes of a microphone, until Ctrl-C or so many seconds are over."""
    source = MicrophoneSource(wanted, patient=True)
    with _interruptible(seconds) as stopped:
        for item in source.frames(stopped):
            if not isinstance(item, DeviceStateChanged):
                continue
            if as_json:
                print_json(item.as_dict())
            else:
                print(f"{time.strftime('%H:%M:%S')}  {item.state:<12}  {item.device}: {item.reason}", flush=True)


def test_level(wanted: str | None, seconds: float, as_json: bool) -> None:
    """Show a live meter, then the numbers and a verdict; exits with 1 unless the level is fine."""
    source = MicrophoneSource(wanted)
    result = report(_hear(source, seconds))
    values = source.format() | {"dropped": source.dropped()} | asdict(result)
    if as_json:
        print_json(values)
    else:
        verdict = values.pop("verdict")
        print_rows([{"measured": key, "value": value} for key, value in values.items()], as_json)
        print(f"\n{verdict}")
    if result.verdict != "level fine":
        sys.exit(1)


def _hear(source: MicrophoneSource, seconds: float) -> list[np.ndarray]:
    """So many seconds of frames, shown as they come if somebody looks."""
    console = Console(stderr=True)
    frames: list[np.ndarray] = []
    with _interruptible(None) as stopped, Live(console=console, transient=True, refresh_per_second=15) as live:
        for item in source.frames(lambda: stopped() or len(frames) * FRAME_S >= seconds):
            if isinstance(item, DeviceStateChanged):
                if item.state != "active":
                    raise UserError(f"{item.device}: {item.reason}")
                continue
            frames.append(item)
            live.update(_meter(level_dbfs(item), seconds - len(frames) * FRAME_S))
    if not frames:
        raise UserError(f"{source.name}: nothing was heard")
    return frames


def _meter(level: float, left_s: float) -> Text:
    share = min(1.0, max(0.0, 1.0 - level / METER_FROM_DBFS))
    bar = "█" * round(share * METER_CELLS)
    return Text(f"say something  {bar:<{METER_CELLS}} {level:6.1f} dBFS  {max(0.0, left_s):.0f} s")


@contextmanager
def _interruptible(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed or the time is up: a stop that lets the stream be closed."""
    stop = threading.Event()
    until = None if seconds is None else time.monotonic() + seconds
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stop.is_set() or (until is not None and time.monotonic() >= until)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
