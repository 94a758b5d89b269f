"""How the CTC term spells: words heard often as the LLM's own tokens, rarer ones by their parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from salmonn_core.spelling import merged_from, often_heard


class Pieces:
    """Text to token ids of the LLM's vocabulary, and back.

    Args:
        llm: the LLM's folder.
    """

    def __init__(self, llm: Path) -> None:
        description = (llm / "tokenizer.json").read_text()
        self.tokenizer = Tokenizer.from_str(description)
        self.parts = merged_from(description)

    def ids(self, text: str) -> list[int]:
        """Ids of a spoken text; each word is spelled as inside a sentence, with its space before it."""
        return list(self.tokenizer.encode(" " + text, add_special_tokens=False).ids)

    def classes(self, texts: Iterable[str], least: int) -> list[int]:
        """Ids of the tokens that occur at least so often in the texts, as themselves or as a part of rarer ones."""
        return often_heard((token for text in texts for token in self.ids(text)), self.parts, least)

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids)).strip()
