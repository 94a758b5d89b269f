"""The spelling that the CTC term asks for: the LLM's own tokens, of its most frequent merges only.

A bridge that has to name each of thirteen thousand whole words sees most of them a few times and never
learns them: 13 % of the tokens of unseen speech occurred less than five times in 50 hours. With the first
thousand merges of the tokenizer a word is spelled in 1.9 pieces, each of them heard often, and any word
can be spelled. The LLM reads the pieces as they are embeddings of its own, and writes whole words.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

MERGES = 1000


class Pieces:
    """Text to token ids of the LLM's vocabulary, and back, with only the first merges of its tokenizer."""

    def __init__(self, llm: Path, merges: int = MERGES) -> None:
        description = json.loads((llm / "tokenizer.json").read_text())
        description["model"]["merges"] = description["model"]["merges"][:merges]
        self.tokenizer = Tokenizer.from_str(json.dumps(description))

    def ids(self, text: str) -> list[int]:
        """Ids of a spoken text; each word is spelled as inside a sentence, with its space before it."""
        return list(self.tokenizer.encode(" " + text, add_special_tokens=False).ids)

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids)).strip()
