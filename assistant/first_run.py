"""What the first-run screen decides and writes. No widgets here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from assistant.audio.background import level_dbfs
from assistant.errors import UserError
from assistant.profile import user_folder
from assistant.records import FRAME_SAMPLES

TEST_S = 2.0
DEAD_DBFS, FAINT_DBFS = -75.0, -45.0
CLIPPED = 0.999


def needed() -> bool:
    """Whether this user has no profile yet."""
    return not any(user_folder().glob("*.yaml"))


def verdict(samples: np.ndarray) -> tuple[bool, str]:
    """Whether (n,) float32 of a microphone test will do, and what to say about it."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    levels = sorted(level_dbfs(frame) for frame in frames) or [-100.0]
    loud, quiet = levels[-max(1, len(levels) // 10)], levels[len(levels) // 10]
    said = f"loudest {loud:.0f} dBFS, quietest {quiet:.0f} dBFS"
    if loud < DEAD_DBFS:
        return False, f"Nothing was heard ({said}). Is it muted, or another device?"
    if loud < FAINT_DBFS:
        return False, f"Very faint ({said}). Come nearer, or turn the input level up."
    if float(np.mean(np.abs(samples) >= CLIPPED)) > 0.001:
        return False, f"Too loud, it clips ({said}). Turn the input level down."
    return True, f"Good ({said})."


def write_profile(device: str | None) -> Path:
    """The user's own `default` profile with this microphone; None is the system's default one.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = user_folder() / "default.yaml"
    own = {"extends": "default", "name": "default", "hearing": {"input": device}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "# Written at the first start; `assistant profiles show` shows all that it extends.\n"
        path.write_text(head + yaml.safe_dump(own, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); set ASSISTANT_CONFIG to another folder") from error
    return path
