"""The first sentence of a story: what is heard, and what else it may be.

A small model that is asked for a story soon tells the same one of everything. Begun with its own caption it tells of
what was heard.
"""

from __future__ import annotations

from salmonn_core.namer import ONE_OF_A_KIND, Names, mentioned

# Of what cannot be counted, beside what ends as names of sounds that go on do: "raining", "footsteps".
MASS = frozenset({"rain", "thunder", "wind", "water", "applause", "laughter", "music", "traffic", "static", "noise"})
GOING_ON = ("ing", "s")


def opening(caption: str, names: Names) -> str:
    """The caption, and a doubt if it does not mention what the namer hears first; nothing of plain speech."""
    if not caption or not names.likely:
        return ""
    first = names.likely[0]
    music = any(_noun(label) in ONE_OF_A_KIND for label in names.likely)
    return caption if music or mentioned(first, caption) else f"{caption} Or is it {_one(first)}?"


def _noun(label: str) -> str:
    return label.rpartition(" ")[2]


def _one(label: str) -> str:
    """A label as a thing: "a dog bark", "an engine", "rain", "glass breaking"."""
    if _noun(label) in MASS or label.endswith(GOING_ON):
        return label
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"
