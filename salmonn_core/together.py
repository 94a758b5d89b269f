"""Several questions at once: each answered as it would be alone, in a fraction of the time.

The LLM's weights are read from memory once a step for all answers; a single answer waits for little else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from salmonn_core.beams import Search
from salmonn_core.decode import Choice, GenerationOptions, generate_batch, pieces, search_batch, search_for
from salmonn_core.halves import in_halves
from salmonn_core.int8 import Int8Llama
from salmonn_core.llm import State
from salmonn_core.model import Asked, Open, Prepared, for_caption, for_words
from salmonn_core.prompts import WORDS_HERE

if TYPE_CHECKING:
    from salmonn_core.model import Salmonn


def stream_many(model: Salmonn, asked: Sequence[Asked]) -> list[list[str]]:
    """Of each question the pieces that `Salmonn.stream` would yield."""
    _write_down(model, asked)
    answered = partial(_answered, model)
    return in_halves(answered, asked) if isinstance(model.llm, Int8Llama) else answered(asked)


def _answered(model: Salmonn, asked: Sequence[Asked], stopped: Callable[[], bool] = lambda: False) -> list[list[str]]:
    answers: list[list[str]] = [[] for _ in asked]
    groups: dict[tuple[float, bool], list[tuple[int, Open, Search | None]]] = {}
    for row, each in enumerate(asked):
        if stopped():
            return answers
        opened = model.open(each)
        if isinstance(opened, str):
            answers[row] = [opened]
            continue
        answers[row] = [opened.begun] if opened.begun else []
        search = search_for(opened.options, model.tokenizer, opened.guide)
        groups.setdefault((each.options.lora_scale, search is not None), []).append((row, opened, search))
    for (lora_scale, _), group in groups.items():
        ready = [opened.ready for _, opened, _ in group]
        prompts, prefixes, remember = [r.rest for r in ready], [r.prefix for r in ready], _remembering(ready)
        if searches := [search for _, _, search in group if search]:
            found = search_batch(model.llm, prompts, searches, lora_scale, prefixes, remember, stopped)
        else:
            choices = [Choice(opened.options, model.tokenizer, opened.guide) for _, opened, _ in group]
            found = generate_batch(model.llm, prompts, choices, lora_scale, prefixes, remember, stopped)
        for (row, opened, _), ids in zip(group, found, strict=True):
            answers[row] += opened.respelled(pieces(model.tokenizer, iter(ids)))
    return answers


def _remembering(ready: Sequence[Prepared]) -> Callable[[State], None]:
    """What the next question about each window can use is kept, as when it is asked alone."""

    def remember(state: State) -> None:
        for row, each in enumerate(ready):
            each.remember(state.one(row))

    return remember


def _write_down(model: Salmonn, asked: Sequence[Asked]) -> None:
    """The transcripts and captions that some questions need first, together; they are kept with the audio."""
    wanted: dict[tuple[int, float | None], tuple[Asked, Callable[[str], None]]] = {}
    for audio, options in ((each.audio, each.options) for each in asked):
        if audio is None:
            continue
        scale = options.lora_scale
        if _needs_words(options) and scale not in audio.words:
            wanted[id(audio), scale] = for_words(audio, scale), partial(audio.words.__setitem__, scale)
        if options.heard_first and not audio.captions and model.names(audio):
            wanted[id(audio), None] = for_caption(audio), audio.captions.append
    if not wanted:
        return
    questions, keep = zip(*wanted.values(), strict=True)
    for kept, answer in zip(keep, stream_many(model, questions), strict=True):
        kept("".join(answer).strip())


def _needs_words(options: GenerationOptions) -> bool:
    return options.words_first or bool(options.pattern and (options.spot or WORDS_HERE in options.pattern))
