"""What the audio tokens say by themselves, and how that keeps the LLM to the words that were spoken.

The alignment (docs/training.md) puts each audio token beside the input embedding of the word that is spoken there, or
beside a learned blank. Read as CTC (Graves et al. 2006) the tokens alone are a rough transcript. Added to the LLM's
own scores while it writes one (hybrid CTC/attention decoding, Watanabe et al. 2017, eq. 27 and algorithm 2, here
greedily), they stop it from running on, skipping or making up what nobody said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.letters import as_text
from salmonn_core.paths import collapsed, nothing_read
from salmonn_core.spelling import LetterSpelling, Spelling

# Log-probability of what cannot be read at all: a name that the reader never learned can still be written.
FLOOR = -14.0
HEARD = -5.0  # a token is worth trying where some audio token gives it at least this
UNLIKELY = 25.0  # nats behind the likeliest place to stand in a clip
NEXT = 0.3  # nats within which the last likely place is taken for where the answer stands
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
        return [self.tokens[class_ - 1] for class_ in collapsed(log_probs.argmax(dim=-1))]


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
        self._log_probs = log_probs.cpu().double().clamp_min(FLOOR)
        self.spelling, self.weight = spelling, weight
        self._likeliest = self._log_probs.max(dim=1).values.cumsum(dim=0)
        self._best = best = self._log_probs.argmax(dim=1)
        self._emits = ((best != 0) & (best != F.pad(best[:-1], (1, 0), value=-1))).nonzero().flatten()
        self._paths, self.at_start = nothing_read(self._log_probs), True
        self._scores = torch.zeros(1, dtype=torch.double)
        self._places = self._stand()

    def scores(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """How much likelier the clip is to begin with a beginning and a token more than with the beginning, (n,).

        Args:
            rows: which beginning, (n,).
            tokens: which token, (n,).
        """
        scores = self.continued(self.spelling.classes(self.at_start)[tokens], FLOOR, rows)
        over = tokens == self.spelling.end
        scores[over] = (self._paths.ends() - self._scores)[rows[over]]
        return scores

    def continued(self, classes: Tensor, floor: float, rows: Tensor | None = None) -> Tensor:
        """The same of some spellings, (n, longest) classes each, zeros after them.

        Args:
            floor: what is unlikelier gets no likelier by more classes; that of what has none.
            rows: which beginning each goes on, (n,); the first, if not given.
        """
        rows = torch.zeros(len(classes), dtype=torch.long) if rows is None else rows
        start, end = min(place.start for place in self._places), max(place.end for place in self._places)
        log_probs, paths = self._log_probs[start:end], self._paths.between(start, end)
        until = self._scores[rows]
        least = until + floor
        scores = least.clone()
        known = (classes[:, 0] > 0).nonzero().flatten()
        begun = rows[known]  # which of the paths each goes on from: many begin alike
        for place in range(classes.shape[1]):
            ways, which = (begun * log_probs.shape[1] + classes[known, place]).unique(return_inverse=True)
            paths, class_ = paths.of(ways // log_probs.shape[1]), ways % log_probs.shape[1]
            scores[known] = paths.begins_with(log_probs, class_)[which]
            longer = scores[known] > least[known]
            if place + 1 < classes.shape[1]:
                longer &= classes[known, place + 1] > 0
            if place + 1 == classes.shape[1] or not longer.any():
                break
            goes_on, begun = which[longer].unique(return_inverse=True)
            paths, known = paths.of(goes_on).then(log_probs, class_[goes_on]), known[longer]
        return scores - until

    def grow(self, rows: Tensor, tokens: Tensor) -> None:
        """From now on the beginnings are these, each one of those until now and a token more.

        A token that cannot be spelled leaves its beginning where it stands.
        """
        classes = self.spelling.classes(self.at_start)[tokens]
        self._paths, self._scores = self._paths.of(rows), self._scores[rows]
        self.move(classes)

    def move(self, classes: Tensor) -> None:
        """Move each beginning on by some classes in a row, (beginnings, longest), zeros after them."""
        self.at_start = False
        for place in range(classes.shape[1]):
            moved = (classes[:, place] > 0).nonzero().flatten()
            if not len(moved):
                break
            paths, class_ = self._paths.of(moved), classes[moved, place]
            self._scores[moved] = paths.begins_with(self._log_probs, class_)
            self._paths = self._paths.replaced(moved, paths.then(self._log_probs, class_))
        self._places = self._stand()

    def worth_trying(self, row: int) -> Tensor:
        """Tokens that were heard and may come next after a beginning."""
        raise NotImplementedError

    def _stand(self) -> list[Place]:
        """Where in the clip each beginning may end."""
        # Before the first frame, or after any of them: how far it is behind the likeliest reading until there.
        behind = torch.cat((self._paths.before[None], self._paths.either() - self._likeliest[:, None]))
        best = behind.max(dim=0).values
        fronts = len(behind) - 2 - (behind > best - NEXT).flip(0).int().argmax(dim=0)
        starts = ((behind > best - UNLIKELY).int().argmax(dim=0) - 1).clamp_min(0)
        # After as many classes as are looked at; there is an end behind the last ones.
        ends = F.pad(self._emits, (0, self.ahead + 1), value=len(self._log_probs))
        ends = ends[torch.searchsorted(self._emits, fronts, right=True) + self.ahead]
        places = zip(starts.tolist(), fronts.tolist(), ends.tolist(), strict=True)
        return [Place(start, front, end) for start, front, end in places]


class WordReading(Reading):
    """What `Reader` gives for a clip."""

    ahead = 12

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        super().__init__(log_probs, spelling, weight)
        clear = self._log_probs > HEARD
        heard = clear.any(dim=0)
        heard[0] = True  # after a token's last class
        self._heard = []  # inside an answer and at its start: tokens, and where each one's first class is heard
        for first in (False, True):
            table = spelling.classes(first)
            tokens = _all_heard(table, heard)
            self._heard.append((tokens, clear[:, table[tokens, 0]]))

    def worth_trying(self, row: int) -> Tensor:
        place = self._places[row]
        tokens, where = self._heard[self.at_start]
        return tokens[where[place.start : place.end].any(dim=0)]


class LetterReading(Reading):
    """What `Letters` gives for a clip."""

    ahead = 24
    spelling: LetterSpelling

    def worth_trying(self, row: int) -> Tensor:
        """The tokens that begin what is likeliest to come next."""
        text = as_text(self._best[self._places[row].front + 1 :])
        # The first letter may be the last one of the answer, heard for longer.
        found = {
            token for begin in (text, text[1:], " " + text, text[1:].lstrip()) for token in self.spelling.begins(begin)
        }
        return torch.tensor(sorted(found), dtype=torch.long)


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
        return torch.full_like(logits, -torch.inf).index_copy(0, tokens.to(logits.device), scores.to(logits))

    def scores(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What may come next: the number of a beginning, a token and their joint score, (n,) each.

        Args:
            logits: the LLM's after each beginning, (beginnings, vocabulary).
        """
        likely = logits.topk(min(CANDIDATES, logits.shape[1])).indices.cpu()
        tried = [
            torch.cat((some, *(reading.worth_trying(row) for reading in self._readings))).unique()
            for row, some in enumerate(likely)
        ]
        rows = torch.arange(len(tried)).repeat_interleave(torch.tensor([len(some) for some in tried]))
        tokens = torch.cat(tried)
        scores = self._weight * (logits[rows, tokens] - logits.logsumexp(dim=1)[rows]).cpu()
        for reading in self._readings:
            scores = scores + reading.weight * reading.scores(rows, tokens).to(scores)
        return rows, tokens, scores

    def grow(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """From now on the beginnings are these, each one of those until now and a token more."""
        for reading in self._readings:
            reading.grow(torch.tensor(rows), torch.tensor(tokens))


def _all_heard(table: Tensor, heard: Tensor) -> Tensor:
    """The tokens all of whose classes were heard; few begin with one that was."""
    begins = (heard[table[:, 0]] & (table[:, 0] > 0)).nonzero().flatten()
    return begins[heard[table[begins]].all(dim=1)]
