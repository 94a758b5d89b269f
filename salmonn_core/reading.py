"""What the audio tokens say by themselves, and how that keeps the LLM to the words that were spoken.

The alignment (docs/training.md) puts each audio token beside the input embedding of the word that is spoken there, or
beside a learned blank. Read as CTC (Graves et al. 2006) the tokens alone are a rough transcript. Added to the LLM's
own scores while it writes one (hybrid CTC/attention decoding, Watanabe et al. 2017, eq. 27 and algorithm 2, here
greedily), they stop it from running on, skipping or making up what nobody said.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

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


class Reading:
    """One reading of a clip, and how far an answer has come in it.

    Args:
        log_probs: (length, classes) of each frame or audio token; class 0 is the blank.
        spelling: the LLM's tokens in these classes.
        weight: how much it counts beside the LLM and other readings; all together have 1.

    Attributes:
        ahead: classes that are looked at after where the answer stands: a token's, and some that it may skip.
    """

    ahead: int

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        self._log_probs = log_probs.cpu().double().clamp_min(FLOOR)
        self.spelling, self.weight = spelling, weight
        self._likeliest = self._log_probs.max(dim=1).values.cumsum(dim=0)
        self._best = best = self._log_probs.argmax(dim=1)
        self._emits = ((best != 0) & (best != F.pad(best[:-1], (1, 0), value=-1))).nonzero().flatten()
        self._path, self._score, self.at_start = nothing_read(self._log_probs), 0.0, True
        self._here = self._place()

    def scores(self, tokens: Tensor) -> Tensor:
        """How much likelier the clip is to begin with the answer and each of some tokens than with the answer."""
        scores = self.continued(self.spelling.classes(self.at_start)[tokens], FLOOR)
        scores[tokens == self.spelling.end] = self._path.ends() - self._score
        return scores

    def continued(self, classes: Tensor, floor: float) -> Tensor:
        """The same of some spellings, (n, longest) classes each, zeros after them.

        Args:
            floor: what is unlikelier gets no likelier by more classes; that of what has none.
        """
        start, _, end = self._here
        log_probs, path = self._log_probs[start:end], self._path.between(start, end)
        scores = torch.full((len(classes),), self._score + floor, dtype=torch.double)
        known = (classes[:, 0] > 0).nonzero().flatten()
        begun = torch.zeros_like(known)  # which of the paths each goes on from: many begin alike
        for place in range(classes.shape[1]):
            ways, which = (begun * log_probs.shape[1] + classes[known, place]).unique(return_inverse=True)
            path, class_ = path.of(ways // log_probs.shape[1]), ways % log_probs.shape[1]
            scores[known] = path.begins_with(log_probs, class_)[which]
            longer = scores[known] > self._score + floor
            if place + 1 < classes.shape[1]:
                longer &= classes[known, place + 1] > 0
            if place + 1 == classes.shape[1] or not longer.any():
                break
            goes_on, begun = which[longer].unique(return_inverse=True)
            path, known = path.of(goes_on).then(log_probs, class_[goes_on]), known[longer]
        return scores - self._score

    def take(self, token: int) -> None:
        """Move on by one token; one that cannot be spelled leaves its place as it is."""
        classes = self.spelling.classes(self.at_start)[token]
        self.move(classes[classes > 0])

    def move(self, classes: Tensor) -> None:
        """Move on by some classes in a row."""
        self.at_start = False
        for class_ in classes:
            self._score = float(self._path.begins_with(self._log_probs, class_[None]))
            self._path = self._path.then(self._log_probs, class_[None])
        self._here = self._place()

    def worth_trying(self) -> Tensor:
        """Tokens that were heard and may come next."""
        raise NotImplementedError

    def _place(self) -> tuple[int, int, int]:
        """Where the answer may stand in the clip: its first frame, its likeliest, and one that is far behind both."""
        # Before the first frame, or after any of them: how far it is behind the likeliest reading until there.
        behind = F.pad(self._path.either()[:, 0] - self._likeliest, (1, 0), value=self._path.before)
        best = behind.max()
        front = int((behind > best - NEXT).nonzero()[-1]) - 1
        start = max(0, int((behind > best - UNLIKELY).nonzero()[0]) - 1)
        ahead = self._emits[self._emits > front]
        return start, front, int(ahead[self.ahead]) if len(ahead) > self.ahead else len(self._log_probs)


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

    def worth_trying(self) -> Tensor:
        start, _, end = self._here
        tokens, where = self._heard[self.at_start]
        return tokens[where[start:end].any(dim=0)]


class LetterReading(Reading):
    """What `Letters` gives for a clip."""

    ahead = 24
    spelling: LetterSpelling

    def worth_trying(self) -> Tensor:
        """The tokens that begin what is likeliest to come next."""
        _, front, _ = self._here
        text = as_text(self._best[front + 1 :])
        # The first letter may be the last one of the answer, heard for longer.
        found = {
            token for begin in (text, text[1:], " " + text, text[1:].lstrip()) for token in self.spelling.begins(begin)
        }
        return torch.tensor(sorted(found), dtype=torch.long)


class Guide:
    """Scores of the next token by the LLM and what was read in the clip together, for one answer."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings, self._length = readings, 0
        self._weight = 1.0 - sum(reading.weight for reading in readings)

    def copy(self) -> Guide:
        """One that goes on by itself from here."""
        other = copy(self)
        other._readings = [copy(reading) for reading in self._readings]  # what they hold is replaced, never changed
        return other

    def __call__(self, logits: Tensor, so_far: list[int]) -> Tensor:
        """The joint scores of all tokens, (vocabulary,): minus infinity where no side likes them.

        Args:
            logits: the LLM's, (vocabulary,).
            so_far: ids of the answer until now; those that are new since the last call are taken in.
        """
        for token in so_far[self._length :]:
            for reading in self._readings:
                reading.take(token)
        self._length = len(so_far)
        likely = logits.topk(min(CANDIDATES, len(logits))).indices.cpu()
        tried = torch.cat((likely, *(reading.worth_trying() for reading in self._readings))).unique()
        scores = self._weight * logits.log_softmax(-1)[tried]
        for reading in self._readings:
            scores = scores + reading.weight * reading.scores(tried).to(logits)
        joint = torch.full_like(logits, -torch.inf)
        joint[tried] = scores
        return joint


def _all_heard(table: Tensor, heard: Tensor) -> Tensor:
    """The tokens all of whose classes were heard; few begin with one that was."""
    begins = (heard[table[:, 0]] & (table[:, 0] > 0)).nonzero().flatten()
    return begins[heard[table[begins]].all(dim=1)]
