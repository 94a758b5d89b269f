"""The namer: which sounds are heard around a window, as words that are added to its tokens.

Not in the paper. A Q-Former that learned to read words passes little else on, and sounds to teach it are few; a
linear layer on how the same features are spread names twice as many sounds that it never heard (docs/training-log.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of some three hundred labels the right one is seldom likelier than not, so votes count from below that on; but the
# many that are a little possible, as in noisy speech, must not add up: read by themselves, the tokens would be blurred.
DOUBT, UNHEARD = 2.0, 0.35
MOST_NAMES, WORTH_NAMING = 6, -3.5  # a piece of music has its kind, tempo, key and instruments
ONE_OF_A_KIND = frozenset({"tempo", "key"})  # "slow tempo" and "fast tempo" are not both heard
SOUNDING = -2.6  # the best logit of a window is mostly above it in sounds and below it in speech
AROUND = 8  # windows before and after one that help to name what sounds in it; a single one is right less often
LASTING = 4  # windows, about a second: what sounds for less is no part of what was heard one after the other
SPEECH = "speech"
# Labels of who speaks: told when that is asked. They add nothing to the tokens unless training makes them.
VOICES = {"man's voice": "man", "woman's voice": "woman"}
WHO = re.compile(r"\b(wo)?man\b.*\b(wo)?man\b|\b(fe)?male\b.*\b(fe)?male\b|\bgender\b", re.IGNORECASE)
ORDER, WORDS = re.compile(r"\b(before|after|first|last)\b"), re.compile(r"\b(words|speech|voice)\b")
MOMENTS = 3
LEAST_VARIANCE = 1e-6
STEM = 4  # letters of a label's word that a text must have


def moments(windows: Tensor) -> Tensor:
    """(windows, frames, width) to (windows, 3, width): mean, mean square and mean step from one frame to the next."""
    windows = windows.float()
    steps = (windows[:, 1:] - windows[:, :-1]).abs()
    return torch.stack((windows.mean(dim=1), windows.square().mean(dim=1), steps.mean(dim=1)), dim=1)


def described(moments: Tensor) -> Tensor:
    """(..., 3, width) averaged over some windows to (..., 3 x width): mean, deviation and step of each feature."""
    mean, square, step = moments.unbind(dim=-2)
    deviation = (square - mean.square()).clamp_min(LEAST_VARIANCE).sqrt()
    return torch.cat((mean, deviation, step), dim=-1)


def over_clip(logits: Tensor) -> Tensor:
    """The logits of a clip's windows, (windows, labels), as those of the clip, (labels,).

    The mean of their exponentials: a sound that fills half of the clip counts nearly as one that fills it all.
    """
    return logits.float().logsumexp(dim=0) - math.log(len(logits))


@dataclass(frozen=True)
class Names:
    """What the namer hears in a clip; false where nothing is worth a word.

    Attributes:
        likely: the few likeliest labels, the likeliest first.
        in_order: what sounds one after the other, `SPEECH` where nothing has a label.
        voice: `man` or `woman`, where that is what is asked.
    """

    likely: tuple[str, ...] = ()
    in_order: tuple[str, ...] = ()
    voice: str = ""

    def __bool__(self) -> bool:
        return bool(self.likely or self.voice)


def named(logits: Tensor, labels: Sequence[str], question: str = "") -> Names:
    """What is heard in a clip.

    Args:
        logits: (windows, labels).
        question: what is asked about it. One about the order of sounds that it names is about those alone: telling
            which of two comes first is easier than telling what they are. One that asks whether a man or a woman
            speaks is about the voice.
    """
    if not labels or not len(logits):
        return Names()
    logits = logits.float().cpu()  # at once: each number that is looked at would be waited for
    if WHO.search(question) and set(VOICES) <= set(labels):
        return Names(voice=_voice(logits, labels))
    sounds = [index for index, label in enumerate(labels) if label not in VOICES]
    logits, labels = logits[:, sounds], [labels[index] for index in sounds]
    in_order = _asked_for(logits, labels, question) or _in_order(logits, labels)
    return Names(tuple(islice(_worth_naming(over_clip(logits), labels), MOST_NAMES)), in_order)


def _voice(logits: Tensor, labels: Sequence[str]) -> str:
    """The likelier of both."""
    heard = over_clip(logits[:, [labels.index(voice) for voice in VOICES]])
    return list(VOICES.values())[int(heard.argmax())]


def _worth_naming(logits: Tensor, labels: Sequence[str]) -> Iterator[str]:
    """The labels that are likely enough, the likeliest first; of what a piece has one of, that one alone."""
    told = set[str]()
    for index in logits.argsort(descending=True).tolist():
        if logits[index] <= WORTH_NAMING:
            return
        if (noun := labels[index].rpartition(" ")[2]) not in told:
            told |= ONE_OF_A_KIND & {noun}
            yield labels[index]


def _asked_for(logits: Tensor, labels: Sequence[str], question: str) -> tuple[str, ...]:
    """The sounds that a question about their order names, by the middle of when each is likelier than the others."""
    if not ORDER.search(question):
        return ()
    longest_first = sorted(labels, key=len, reverse=True)  # a church bell is no other bell
    about = list(dict.fromkeys(re.findall(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", question)))
    items = [logits[:, labels.index(label)] for label in about]
    if WORDS.search(question):
        about.append(SPEECH)
        items.append(-logits.max(dim=1).values)  # of speech no sound is likely
    if len(items) < 2:
        return ()
    each = torch.stack(items, dim=1)
    share = (each - each.mean(dim=0)).softmax(dim=1)
    when = torch.arange(len(share), dtype=share.dtype) @ share / share.sum(dim=0)
    return tuple(about[index] for index in when.argsort().tolist())


def _in_order(logits: Tensor, labels: Sequence[str]) -> tuple[str, ...]:
    """The likeliest label of each window, or `SPEECH`; what lasts for less than a second is left out."""
    best = logits.max(dim=1)
    each = [
        labels[index] if logit > SOUNDING else SPEECH
        for logit, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    runs = [(name, len(list(run))) for name, run in groupby(each)]
    lasting = (name for name, windows in runs if windows >= min(LASTING, len(each)))
    return tuple(name for name, _ in groupby(lasting))


def mentioned(label: str, text: str) -> bool:
    """Whether a text names a label: the four-letter stem of each of its longer words is there."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    stems = [word[:STEM] for word in re.findall(r"[a-z0-9']+", label.lower()) if len(word) > 2]
    return bool(stems) and all(any(word.startswith(stem) for word in words) for stem in stems)


class Namer(nn.Module):
    """Names what sounds around a window and adds the label's words to its tokens; nothing where nothing has a label.

    Args:
        width: of the joined features.
        labels: how many sounds it knows.
        llm_width: of the tokens.
    """

    def __init__(self, width: int, labels: int, llm_width: int) -> None:
        super().__init__()
        self.label = nn.Linear(MOMENTS * width, labels)
        self.words = nn.Linear(labels, llm_width, bias=False)

    def logits(self, windows: Tensor) -> Tensor:
        """(windows, window_frames, width) of one clip to (windows, labels): positive where one is likelier than not."""
        each = moments(windows)
        around = F.avg_pool1d(each.flatten(1).T[None], 2 * AROUND + 1, 1, AROUND, count_include_pad=False)[0].T
        return cast(Tensor, self.label(described(around.unflatten(1, each.shape[1:])).to(self.label.weight.dtype)))

    def forward(self, logits: Tensor) -> Tensor:
        """The `logits` of a clip's windows to what their tokens get more, (windows, 1, llm_width)."""
        votes = F.relu(F.softplus(logits + DOUBT) - UNHEARD)
        return cast(Tensor, self.words(votes))[:, None]
