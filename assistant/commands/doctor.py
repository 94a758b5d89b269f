"""`assistant doctor`: every need, whether it is met, and what to do if not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

from assistant.commands.output import print_rows
from assistant.errors import UserError


def _python() -> str:
    return sys.version.split()[0]


def _torch() -> str:
    import torch

    where = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{torch.__version__} ({where})"


def _processor() -> str:
    """How the embedded model is computed on the CPU: laptops mostly lack what servers have."""
    from salmonn_core.int8_pack import levels
    from salmonn_core.processor import multiplies_bfloat16, multiplies_int8

    heard = "bfloat16" if multiplies_bfloat16() else "float32 (no AVX-512 BF16)"
    answered = f"int8 of {levels()} levels" if multiplies_int8() else "float32 (no x86)"
    return f"hears in {heard}, answers in {answered}"


def _weights() -> str:
    from salmonn_core.weights.sources import PARTS, locate

    for name in PARTS:
        locate(name)
    return f"{', '.join(PARTS)} are here"


def _disk() -> str:
    from salmonn_core.weights.sources import cache_folder

    folder = next(p for p in (cache_folder(), *cache_folder().parents) if p.exists())
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < 1000:
        raise UserError(f"only {free} MB are free at {folder}; fetching the weights needs 1000 MB")
    return f"{free} MB free at {folder}"


def _microphone() -> str:
    from assistant.audio.devices import choose_device, input_devices

    device = choose_device(None, input_devices())
    return f"{device.name} ({device.rate_hz} Hz)"


def _profiles() -> str:
    from assistant.profile import available, load

    for name in available():
        load(name)
    return f"{len(available())} profiles, all valid"


def _plugins() -> str:
    from assistant.commands.setup import make_host
    from assistant.profile import load

    problems: list[str] = []
    host = make_host(load("default"), lambda name, message: problems.append(f"{name} {message}"), safe=False)
    if problems:
        raise UserError(problems[0])
    return f"{len(host.plugins)} plugins, {len(host.skills)} skills"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "torch": _torch,
    "processor": _processor,
    "weights": _weights,
    "disk": _disk,
    "microphone": _microphone,
    "profiles": _profiles,
    "plugins": _plugins,
}


def run(as_json: bool) -> None:
    rows = []
    for name, check in CHECKS.items():
        try:
            rows.append({"check": name, "ok": True, "detail": check()})
        except UserError as error:
            rows.append({"check": name, "ok": False, "detail": str(error)})
    print_rows(rows if as_json else [{**row, "ok": "ok" if row["ok"] else "MISSING"} for row in rows], as_json)
    # A missing microphone is no failure: files and standard input work without one.
    if not all(row["ok"] or row["check"] == "microphone" for row in rows):
        sys.exit(1)
