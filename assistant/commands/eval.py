"""`assistant eval`: how well a profile's model does on anyone's manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.commands.output import print_json, print_rows
from assistant.core import Core, load_core
from assistant.errors import UserError
from assistant.profile import load
from assistant.records import GenerationSettings, Prompt

if TYPE_CHECKING:
    from salmonn_core.training.measure import Question


def run(manifest: str, profile: str, limit: int | None, as_json: bool) -> None:
    settings = load(profile)
    try:
        import salmonn_core.training.metrics  # noqa: F401 - what is missing is told before torch is loaded
        from salmonn_core.training.evaluate import chosen, measure_set
    except ModuleNotFoundError as error:
        raise UserError(f"eval needs {error.name}; run: pip install -e '.[train]' in its folder") from error
    clips = chosen(Path(manifest), limit, seed=0)
    core = load_core(settings.core)
    scale = settings.generation.lora_scale
    found, _ = measure_set(Path(manifest).stem, clips, asker(core, 1.0 if scale is None else scale), seed=0)
    if not found:
        raise UserError(f"{manifest}: no entry has anything to measure; docs/training.md lists what is measured")
    if as_json:
        for score in found:
            print_json(asdict(score))
        return
    print_rows(
        (
            {
                "task": s.task,
                "measure": s.measure,
                "clips": s.clips,
                "result": f"{100 * s.value:.1f} %",
                "95 %": f"{100 * s.low:.1f} to {100 * s.high:.1f}",
            }
            for s in found
        ),
        as_json=False,
    )


def asker(core: Core, lora_scale: float) -> Callable[[str, Question], str]:
    """The profile's model as the evaluation asks it: greedy; a file is encoded once for all its questions."""

    from salmonn_core.training.manifests import read_clip

    @lru_cache(maxsize=1)
    def heard(path: str) -> Any:
        return core.encode(read_clip(path))

    def ask(path: str, question: Question) -> str:
        prompt = Prompt(question.instruction, GenerationSettings(**question.options(lora_scale)))
        return "".join(core.stream(heard(path), prompt)).strip()

    return ask
