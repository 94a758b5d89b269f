"""What the audio tokens say by themselves, and how that keeps the LLM to the words that were spoken.

The alignment (docs/training.md) puts each audio token beside the input embedding of the word that is spoken there, or
beside a learned blank. Read as CTC (Graves et al. 2006) the tokens alone are a rough transcript. Added to the LLM's
own scores while it writes one (hybrid CTC/attention decoding, Watanabe et al. 2017, eq. 27 and algorithm 2, here
greedily), they stop it from running on, skipping or making up what nobody said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.letters import as_text
from salmonn_core.paths import BLOCK, FLOOR, Clip, Paths, clip_of, collapsed, emits, nothing_read
from salmonn_core.spelling import LetterSpelling, Spelling

HEARD = -5.0  # a token is worth trying where some audio token gives it at least this
UNLIKELY = 25.0  # nats behind the likeliest place to stand in a clip
NEXT = 0.3  # nats within which the last likely place is taken for where the answer stands
SCALED = 16  # classes in a row after which probabilities are scaled anew: at FLOOR each they do not vanish until then
LETTERS_SHARE = 0.7  # of what readings count, where letters are read too
CANDIDATES = 20  # the LLM's likeliest tokens, tried beside those that were heard


class Reader(nn.Module):
    """Cosine classifier of audio tokens over some of the LLM's tokens; class 0 is the blank.

    Args:
        embeddings: the LLM's input embeddings of those tokens, (classes, width).
        tokens: their ids, (classes,).
    """

    def __init__(self, embeddings: Tensor, tokens: Tensor, initial_scale: float = 20.0) -> None:
        super().__init__()
        self.tokens = tokens.tolist()
        self.register_buffer("classes", F.normalize(embeddings.float(), dim=-1), persistent=False)
        self.scale = nn.Parameter(torch.tensor(initial_scale).log())
        self.blank = nn.Linear(embeddings.shape[1], 1)
        nn.init.zeros_(self.blank.weight)
        nn.init.constant_(self.blank.bias, 2.0)

    def forward(self, audio_tokens: Tensor, only: Tensor | None = None) -> Tensor:
        """(..., length, width) to log-probabilities (..., length, 1 + classes), of `only` some classes."""
        direction = F.normalize(audio_tokens.float(), dim=-1)
        classes: Tensor = self.classes if only is None else self.classes[only]  # type: ignore[assignment,index]
        cosine = direction @ classes.T * self.scale.exp()
        return torch.cat((self.blank(direction), cosine), dim=-1).log_softmax(dim=-1)

    @torch.inference_mode()
    def greedy(self, audio_tokens: Tensor) -> list[int]:
        """LLM token ids of one clip (length, width): the best class of each, repeats merged, blanks dropped."""
        return self.likeliest(self(audio_tokens))

    def likeliest(self, log_probs: Tensor) -> list[int]:
        """The same of what the reader gave for the clip, (length, 1 + classes)."""
        return [self.tokens[class_ - 1] for class_ in collapsed(log_probs.argmax(dim=-1).cpu().numpy())]


class Place(NamedTuple):
    """Where a beginning may end in the clip."""

    start: int  # the first frame
    front: int  # the last likely one, -1 before the first
    end: int  # one that is far behind both


class Reading:
    """One reading of a clip, and how far some beginnings of an answer have come in it: at first one, the empty one.

    Args:
        log_probs: (length, classes) of each frame or audio token; class 0 is the blank.
        spelling: the LLM's tokens in these classes.
        weight: how much it counts beside the LLM and other readings; all together have 1.

    Attributes:
        ahead: classes that are looked at after where an answer stands: a token's, and some that it may skip.
        at_start: whether the beginnings are empty; all of them have as many tokens.
    """

    ahead: int

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        self.spelling, self.weight = spelling, weight
        self._clip = clip_of(log_probs.float().cpu().numpy())
        self._best = self._clip.log_probs.argmax(axis=1)
        self._emits = emits(self._best).nonzero()[0]
        self._paths, self.at_start = nothing_read(self._clip), True
        self._scores = np.zeros(1)
        self._places = self._stand()

    def scores(self, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """How much likelier the clip is to begin with a beginning and a token more than with the beginning, (n,).

        Args:
            rows: which beginning, (n,).
            tokens: which token, (n,).
        """
        scores = self.continued(self.spelling.classes(self.at_start)[tokens], FLOOR, rows)
        over = (tokens == self.spelling.end).nonzero()[0]
        scores[over] = (self._paths.ends(self._clip) - self._scores)[rows[over]]
        return scores

    def continued(self, classes: np.ndarray, floor: float, rows: np.ndarray | None = None) -> np.ndarray:
        """The same of some spellings, (n, longest) classes each, zeros after them.

        Args:
            floor: what is unlikelier gets no likelier by more classes; that of what has none.
            rows: which beginning each goes on, (n,); the first, if not given.
        """
        rows = np.zeros(len(classes), int) if rows is None else rows
        clip, paths = self._near(max(place.end for place in self._places))
        until = self._scores[rows]
        least = until + floor
        scores = least.copy()
        known = classes[:, 0].nonzero()[0]
        begun = rows[known]  # which of the paths each goes on from: many begin alike
        for place in range(classes.shape[1]):
            ways, which = np.unique(begun * clip.log_probs.shape[1] + classes[known, place], return_inverse=True)
            some, class_ = np.divmod(ways, clip.log_probs.shape[1])
            arriving, shares = paths.arriving(some, class_), clip.shares(class_)
            scores[known] = (clip.begins(arriving * shares) + paths.scale[some])[which]
            if place + 1 == classes.shape[1]:
                break
            longer = (scores[known] > least[known]) & (classes[known, place + 1] > 0)
            if not longer.any():
                break
            goes_on, begun = np.unique(which[longer], return_inverse=True)
            paths = paths.then(clip, some[goes_on], class_[goes_on], arriving[goes_on], shares[goes_on])
            known = known[longer]
        return scores - until

    def _near(self, end: int) -> tuple[Clip, Paths]:
        """What is from where the beginnings may end on, in whole blocks."""
        start = min(place.start for place in self._places) // BLOCK * BLOCK
        end = -(-end // BLOCK) * BLOCK
        return self._clip.between(start, end), self._paths.between(start, end)

    def grow(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        """From now on the beginnings are these, each one of those until now and a token more.

        A token that cannot be spelled leaves its beginning where it stands.
        """
        classes = self.spelling.classes(self.at_start)[tokens]
        self._paths, self._scores = self._paths.of(rows), self._scores[rows]
        self.move(classes)

    def move(self, classes: np.ndarray) -> None:
        """Move each beginning on by some classes in a row, (beginnings, longest), zeros after them."""
        self.at_start = False
        clip, paths = self._near(self._clip.frames)
        for place in range(classes.shape[1]):
            moved = classes[:, place].nonzero()[0]
            if not len(moved):
                break
            class_ = classes[moved, place]
            arriving, shares = paths.arriving(moved, class_), clip.shares(class_)
            self._scores[moved] = clip.begins(arriving * shares) + paths.scale[moved]
            paths = paths.replaced(moved, paths.then(clip, moved, class_, arriving, shares))
            if place % SCALED == SCALED - 1:
                paths = paths.scaled()
        self._paths = paths.scaled().after(self._clip.frames)
        self._places = self._stand()

    def worth_trying(self, row: int) -> np.ndarray:
        """Tokens that were heard and may come next after a beginning."""
        raise NotImplementedError

    def _stand(self) -> list[Place]:
        """Where in the clip each beginning may end."""
        # Before the first frame, or after any of them: how far it is behind the likeliest reading until there.
        standing = self._paths.either()[:, : len(self._best)]
        standing = np.concatenate((self._paths.before[:, None], standing), axis=1)
        best = standing.max(axis=1, keepdims=True)
        fronts = standing.shape[1] - 2 - (standing > best * math.exp(-NEXT))[:, ::-1].argmax(axis=1)
        starts = np.maximum((standing > best * math.exp(-UNLIKELY)).argmax(axis=1) - 1, 0)
        # After as many classes as are looked at; there is an end behind the last ones.
        ends = np.pad(self._emits, (0, self.ahead + 1), constant_values=len(self._best))
        ends = ends[np.searchsorted(self._emits, fronts, side="right") + self.ahead]
        places = zip(starts.tolist(), fronts.tolist(), ends.tolist(), strict=True)
        return [Place(start, front, end) for start, front, end in places]


class WordReading(Reading):
    """What `Reader` gives for a clip."""

    ahead = 12

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        super().__init__(log_probs, spelling, weight)
        clear = (log_probs > HEARD).cpu().numpy()
        heard = np.logical_or.reduce(clear)
        heard[0] = True  # after a token's last class
        self._heard = []  # inside an answer and at its start: tokens, and where each one's first class is heard
        for first in (False, True):
            table = spelling.classes(first)
            tokens = _all_heard(table, heard)
            self._heard.append((tokens, clear[:, table[tokens, 0]]))

    def worth_trying(self, row: int) -> np.ndarray:
        place = self._places[row]
        tokens, where = self._heard[self.at_start]
        return tokens[where[place.start : place.end].any(axis=0)]


class LetterReading(Reading):
    """What `Letters` gives for a clip."""

    ahead = 24
    spelling: LetterSpelling

    def worth_trying(self, row: int) -> np.ndarray:
        """The tokens that begin what is likeliest to come next."""
        text = as_text(self._best[self._places[row].front + 1 :])
        # The first letter may be the last one of the answer, heard for longer.
        found = {
            token for begin in (text, text[1:], " " + text, text[1:].lstrip()) for token in self.spelling.begins(begin)
        }
        return np.array(sorted(found), int)


class Guide:
    """Scores of the next token by the LLM and what was read in the clip together, for some beginnings of one answer."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings, self._length = readings, 0
        self._weight = 1.0 - sum(reading.weight for reading in readings)

    def __call__(self, logits: Tensor, so_far: list[int]) -> Tensor:
        """The joint scores of all tokens, (vocabulary,), of an answer that has one beginning.

        They are minus infinity where no side likes them.

        Args:
            logits: the LLM's, (vocabulary,).
            so_far: ids of the answer until now; those that are new since the last call are taken in.
        """
        for token in so_far[self._length :]:
            self.grow([0], [token])
        self._length = len(so_far)
        _, tokens, scores = self.scores(logits[None])
        joint = torch.full(logits.shape, -torch.inf)
        joint[torch.from_numpy(tokens)] = torch.from_numpy(scores).to(joint)
        return joint.to(logits)

    def scores(self, logits: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What may come next: the number of a beginning, a token and their joint score, (n,) each.

        Args:
            logits: the LLM's after each beginning, (beginnings, vocabulary).
        """
        likely = logits.topk(min(CANDIDATES, logits.shape[1])).indices.cpu().numpy()
        tried = [
            np.unique(np.concatenate((some, *(reading.worth_trying(row) for reading in self._readings))))
            for row, some in enumerate(likely)
        ]
        rows = np.repeat(np.arange(len(tried)), [len(some) for some in tried])
        tokens = np.concatenate(tried)
        at = torch.from_numpy(rows)
        alone = logits[at, torch.from_numpy(tokens)] - logits.logsumexp(dim=1)[at]
        scores = self._weight * alone.double().cpu().numpy()
        for reading in self._readings:
            scores = scores + reading.weight * reading.scores(rows, tokens)
        return rows, tokens, scores

    def grow(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """From now on the beginnings are these, each one of those until now and a token more."""
        for reading in self._readings:
            reading.grow(np.array(rows, int), np.array(tokens, int))


def _all_heard(table: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """The tokens all of whose classes were heard; few begin with one that was."""
    begins = (heard[table[:, 0]] & (table[:, 0] > 0)).nonzero()[0]
    found: np.ndarray = begins[heard[table[begins]].all(axis=1)]
    return found
