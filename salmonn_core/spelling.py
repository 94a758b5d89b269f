"""How the words of the LLM's vocabulary are spelled in the classes of a reader.

A reader can only know tokens that it was trained on; any other is spelled by the two tokens that the tokenizer had
merged into it, and those by theirs, so that a word nobody ever spoke to it may still be read. Each token of the LLM has
one spelling, and those of a text are its tokens' spellings in a row. Whole words are better where they were heard
at all: spelled by parts as soon as they were heard less than thirty times, they came out maimed (docs/training-log.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from salmonn_core.letters import as_classes

SPACE = "\u0120"  # how byte-level tokenizers write a word's leading space
LONGEST = 8  # classes of one token; what is longer cannot be read

MOST_LETTERS = 16  # of one token
SPOKEN = re.compile(r" ?[a-z']*[a-z][a-z']*|'")

Parts = Mapping[int, tuple[int, int]]


def merged_from(tokenizer_json: str) -> dict[int, tuple[int, int]]:
    """Each token that byte-pair encoding made, with the two it was made from.

    Args:
        tokenizer_json: the text of a `tokenizer.json` whose model is BPE.
    """
    model = json.loads(tokenizer_json)["model"]
    known: dict[str, int] = model["vocab"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return {known[a + b]: (known[a], known[b]) for a, b in pairs}


def often_heard(heard: Iterable[int], parts: Parts, least: int) -> list[int]:
    """The tokens that are classes: those heard at least so often, as themselves or as a part of rarer ones.

    Args:
        heard: the tokens of all texts, in any order.
        parts: what `merged_from` gives.
        least: how often; single bytes are kept however rare they are.
    """
    counts = Counter(heard)
    for token in reversed(list(parts)):  # what is merged late is no part of what was merged before
        if 0 < counts[token] < least:
            for part in parts[token]:
                counts[part] += counts[token]
            del counts[token]
    return sorted(token for token, count in counts.items() if count)


def spellings(classes: Iterable[int], parts: Parts) -> dict[int, tuple[int, ...]]:
    """Each token that is a class, by itself, and each whose parts can be spelled, by theirs."""
    found: dict[int, tuple[int, ...]] = {token: (token,) for token in classes}
    for token, (first, second) in parts.items():  # in the order of the merges: parts come before what they make
        if token not in found and first in found and second in found:
            found[token] = found[first] + found[second]
    return found


class Spelling:
    """The classes of each of the LLM's tokens, at the start of an answer and inside it.

    Args:
        end: the token that ends an answer.
        inside: (vocabulary, longest) classes of each token inside an answer, zeros after them; all zeros where it
            cannot be spelled.
        first: the same of the answer's first token.
    """

    def __init__(self, end: int, inside: np.ndarray, first: np.ndarray) -> None:
        self.end, self._inside, self._first = end, inside, first

    def classes(self, at_start: bool) -> np.ndarray:
        """(vocabulary, longest) classes of each token, zeros after them; all zeros where it cannot be spelled."""
        return self._first if at_start else self._inside

    def phrase(self, ids: list[int]) -> list[int]:
        """The classes of a phrase inside a sentence, in a row; none where one of its tokens cannot be spelled."""
        rows = [[class_ for class_ in self._inside[id_].tolist() if class_] for id_ in ids]
        return [class_ for row in rows for class_ in row] if all(rows) else []


class WordSpelling(Spelling):
    """In a reader's classes, which are tokens of the LLM.

    The reader knows words as inside a sentence, with their space; an answer's first word has none.

    Args:
        tokens: ids of the reader's classes; class 0 is the blank.
        tokenizer: the LLM's, a fast one with byte-pair encoding.
    """

    def __init__(self, tokens: list[int], tokenizer: Any) -> None:
        known, parts = tokenizer.get_vocab(), merged_from(tokenizer.backend_tokenizer.to_str())
        class_of = {token: i + 1 for i, token in enumerate(tokens)}
        spelled = {token: [class_of[part] for part in of] for token, of in spellings(tokens, parts).items()}
        inside = _table(spelled, len(tokenizer), LONGEST)
        spaced = [(known[text[1:]], id_) for text, id_ in known.items() if text.startswith(SPACE) and text[1:] in known]
        bare, within = np.array(spaced, int).reshape(-1, 2).T
        first = inside.copy()
        first[bare], first[within] = inside[within], 0
        super().__init__(tokenizer.eos_token_id, inside, first)


class LetterSpelling(Spelling):
    """In letters, for a reading of letters (`salmonn_core.letters`): all tokens that have nothing else.

    Args:
        tokenizer: the LLM's, a fast one with byte-pair encoding.
    """

    def __init__(self, tokenizer: Any) -> None:
        known: dict[str, int] = tokenizer.get_vocab()
        texts = {id_: text.replace(SPACE, " ").lower() for text, id_ in known.items()}
        plain = {id_: text for id_, text in texts.items() if SPOKEN.fullmatch(text)}
        inside = _table({id_: as_classes(text) for id_, text in plain.items()}, len(tokenizer), MOST_LETTERS)
        first = inside.copy()
        first[[id_ for id_, text in plain.items() if text.startswith(" ")]] = 0
        self._tokens = {
            text: known[text.replace(" ", SPACE)] for text in plain.values() if text.replace(" ", SPACE) in known
        }
        super().__init__(tokenizer.eos_token_id, inside, first)

    def begins(self, text: str) -> list[int]:
        """The tokens, in lower case, that a text may begin with."""
        starts = (text[:length] for length in range(1, MOST_LETTERS + 1))
        return [self._tokens[start] for start in starts if start in self._tokens]


def _table(spelled: Mapping[int, Sequence[int]], vocabulary: int, longest: int) -> np.ndarray:
    """(vocabulary, longest) classes of each token; none of those that have more."""
    table = np.zeros((vocabulary, longest), int)
    for token, classes in spelled.items():
        if len(classes) <= longest:
            table[token, : len(classes)] = classes
    return table
