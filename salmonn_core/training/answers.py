"""Answers for spoken questions and stories, true by construction.

Trivia questions get their own answer key; other questions and story prompts get what the base LLM
itself answers to the transcript or the caption in text, so that hearing a thing and reading it come to
the same answer. Written as JSON: `TASK:TEXT` to answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm

from salmonn_core.prompts import build_prompt
from salmonn_core.training.corpus import Clip
from salmonn_core.training.trainee import TINY_PROMPT

ASKS = re.compile(r"^(what|who|how|why|when|where|which|is|are|can|could|do|does|tell|give|explain|should)\b")
BATCH = 16


def wanted(clips: list[Clip], questions: int, stories: int) -> Iterator[tuple[str, str, int]]:
    """(key, text prompt for the base LLM, most new tokens)."""
    asked = list(dict.fromkeys(c.text for c in clips if c.kind == "speech" and ASKS.match(c.text)))
    keyed = {c.text for c in clips if c.row.get("answer")}
    for text in [t for t in asked if t not in keyed][:questions]:
        yield f"QA:{text}", f"{text.capitalize()}? Answer in one sentence.", 40
    sounds = list(dict.fromkeys((c.text, c.caption) for c in clips if c.kind == "event"))
    for text, caption in sounds[:stories]:
        yield f"story:{text}", f"Tell a very short story (three sentences) that begins with this: {caption}", 90


@torch.inference_mode()
def answer_all(llm: Any, tokenizer: Any, jobs: list[tuple[str, str, int]]) -> dict[str, str]:
    """The base LLM's greedy answers, whole sentences only."""
    tokenizer.padding_side = "left"
    found: dict[str, str] = {}
    for start in tqdm(range(0, len(jobs), BATCH), desc="answers", unit="batch"):
        part = jobs[start : start + BATCH]
        prompts = [build_prompt(TINY_PROMPT, text, has_audio=False).before for _, text, _ in part]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        limit = max(tokens for _, _, tokens in part)
        out = llm.generate(**batch, max_new_tokens=limit, do_sample=False, repetition_penalty=1.1)
        texts = tokenizer.batch_decode(out[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
        found |= {key: whole for (key, _, _), text in zip(part, texts, strict=True) if (whole := sentences_of(text))}
    return found


def sentences_of(text: str) -> str:
    """The text up to its last whole sentence."""
    return "".join(re.findall(r"[^.!?]+[.!?]+[\"']?", " ".join(text.split()))).strip()
