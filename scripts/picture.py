"""Make docs/screen.svg: the live screen with the real model on the example recordings, as a person would see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from assistant.audio.source import FileSource
from assistant.profile import load
from assistant.records import FRAME_S, WindowEnd
from assistant.tui.app import AssistantApp
from assistant.tui.widgets import TurnView

ROOT = Path(__file__).parent.parent
CLIPS = ("please-try-later.wav", "crow.flac", "phone-number.wav")


class Playlist:
    """The example recordings with pauses between them, at the pace of a microphone."""

    name = "examples"
    live = True
    end: WindowEnd = "end_of_file"

    def frames(self, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
        pause = [np.random.default_rng(0).standard_normal(480).astype(np.float32) * 3e-4] * 60
        for clip in CLIPS:
            for frame in (*pause, *FileSource(ROOT / "examples" / clip).frames(stopped)):
                time.sleep(FRAME_S)
                yield frame
        while not stopped():
            time.sleep(FRAME_S)
            yield pause[0]

    def dropped(self) -> int:
        return 0


async def main() -> None:
    app = AssistantApp(load("captions"), Playlist(), watched="captions")
    async with app.run_test(size=(128, 28)) as pilot:
        for _ in range(240):
            await pilot.pause(0.5)
            if sum("first token" in str(view.render()) for view in app.query(TurnView)) >= len(CLIPS):
                break
        (ROOT / "docs/screen.svg").write_text(app.export_screenshot(title="assistant"))


if __name__ == "__main__":
    asyncio.run(main())
