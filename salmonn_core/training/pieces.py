"""How the CTC term spells: token ids of the LLM's vocabulary, if wanted with its most frequent merges only.

With whole words 13 % of the tokens of unseen speech occurred less than five times in 50 hours of speech; with the
first thousand merges any word is spelled in 1.9 pieces that were all heard often. Tried from the same start
and for some hundred steps, whole words were still better (docs/training-log.md), so they are the default.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer


class Pieces:
    """Text to token ids of the LLM's vocabulary, and back.

    Args:
        llm: the LLM's folder.
        merges: how many of the tokenizer's merges are used; None is all.
    """

    def __init__(self, llm: Path, merges: int | None = None) -> None:
        description = json.loads((llm / "tokenizer.json").read_text())
        description["model"]["merges"] = description["model"]["merges"][:merges]
        self.tokenizer = Tokenizer.from_str(json.dumps(description))

    def ids(self, text: str) -> list[int]:
        """Ids of a spoken text; each word is spelled as inside a sentence, with its space before it."""
        return list(self.tokenizer.encode(" " + text, add_special_tokens=False).ids)

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids)).strip()
