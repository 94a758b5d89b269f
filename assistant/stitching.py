"""Captions of windows that overlap, as one text: words that both have are said once."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

WORDS_A_SECOND = 4.0  # a quick speaker; no overlap holds more
SPARE_WORDS = 2  # cut words at either side of the seam are often heard as something else


def stitch(before: str, after: str, overlap_s: float) -> str:
    """Join the caption of a window to that of the next one, whose first `overlap_s` seconds are the end of the first.

    The longest run of words that ends one and begins the other is kept once, up to case and punctuation; what stands
    beyond it on the seam's wrong side (a word cut in half) goes. Without such a run both are kept whole.
    """
    left, right = before.split(), after.split()
    kept, said = _seam(left, right, overlap_s)
    return " ".join([*left[:kept], *right[said:]])


class Seam:
    """The same for words that are shown as they come: what the window before has shown already is left out.

    Args:
        before: the caption of the window before.
        overlap_s: how much of this window was in that one.
    """

    def __init__(self, before: str, overlap_s: float) -> None:
        self._before, self._overlap_s = before.split(), overlap_s
        self._held = ""
        self._open = bool(self._before) and overlap_s > 0

    def push(self, piece: str) -> str:
        """What can be shown now: nothing, until enough words have come to find the seam."""
        if not self._open:
            return piece
        self._held += piece
        whole_words = len(self._held.split()) - 1
        return self.rest() if whole_words >= _reach(self._overlap_s) else ""

    def rest(self) -> str:
        """What was still held back when the last piece has come."""
        if not self._open:
            return ""
        _, said = _seam(self._before, self._held.split(), self._overlap_s)
        text, self._held, self._open = self._held, "", False
        return re.sub(rf"^(\s*\S+){{{said}}}\s*", "", text) if said else text


def _reach(overlap_s: float) -> int:
    """So many words on either side can be in the overlap."""
    return round(overlap_s * WORDS_A_SECOND) + SPARE_WORDS


def _seam(left: list[str], right: list[str], overlap_s: float) -> tuple[int, int]:
    """How many words of the left text stay, and how many of the right one were said there already."""
    if overlap_s <= 0 or not left or not right:
        return len(left), 0
    most = _reach(overlap_s)
    tail, head = [_plain(word) for word in left[-most:]], [_plain(word) for word in right[:most]]
    match = SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
    at_seam = len(tail) - match.a - match.size <= SPARE_WORDS and match.b <= SPARE_WORDS
    if not match.size or not at_seam or not any(tail[match.a : match.a + match.size]):
        return len(left), 0
    return len(left) - len(tail) + match.a + match.size, match.b + match.size


def _plain(word: str) -> str:
    return re.sub(r"[^\w']", "", word).casefold()
