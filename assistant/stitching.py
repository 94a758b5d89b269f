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
    most = round(overlap_s * WORDS_A_SECOND) + SPARE_WORDS
    left, right = before.split(), after.split()
    if overlap_s <= 0 or not left or not right:
        return " ".join([*left, *right])
    tail, head = left[-most:], right[:most]
    tail_words, head_words = [_plain(word) for word in tail], [_plain(word) for word in head]
    match = SequenceMatcher(None, tail_words, head_words, autojunk=False).find_longest_match()
    at_seam = len(tail) - match.a - match.size <= SPARE_WORDS and match.b <= SPARE_WORDS
    if not match.size or not at_seam or not any(tail_words[match.a : match.a + match.size]):
        return " ".join([*left, *right])
    kept = len(left) - len(tail) + match.a + match.size
    return " ".join([*left[:kept], *right[match.b + match.size :]])


def _plain(word: str) -> str:
    return re.sub(r"[^\w']", "", word).casefold()
