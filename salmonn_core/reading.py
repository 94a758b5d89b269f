"""What the audio tokens say by themselves, and how that keeps the LLM to the words that were spoken.

The alignment (docs/training.md) puts each audio token beside the input embedding of the word that is spoken there, or
beside a learned blank. Read as CTC (Graves et al. 2006) the tokens alone are a rough transcript. Added to the LLM's
own scores while it writes one (hybrid CTC/attention decoding, Watanabe et al. 2017, eq. 27 and algorithm 2, here
greedily), they stop it from running on, skipping or making up what nobody said.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salmonn_core.spelling import Spelling

# Log-probability of what cannot be read at all: a name that the reader never learned can still be written.
FLOOR = -14.0
HEARD = -5.0  # a token is worth trying where some audio token gives it at least this
CANDIDATES = 20  # the LLM's likeliest tokens, tried beside those that were heard
IMPOSSIBLE = -1e9


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
        best = log_probs.argmax(dim=-1).tolist()
        return [self.tokens[c - 1] for i, c in enumerate(best) if c and (i == 0 or best[i - 1] != c)]


class Guide:
    """Scores of the next token by the LLM and the audio tokens together, for one answer.

    Args:
        log_probs: what `Reader` gives for the clip, (length, 1 + classes).
        weight: of the reading, 0 to 1; the LLM has the rest.
    """

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        self._log_probs = log_probs.cpu().double().clamp_min(FLOOR)
        self._spelling, self._weight = spelling, weight
        heard = self._log_probs.amax(dim=0) > HEARD
        heard[0] = True  # after a token's last class
        self._worth_trying = [_all_heard(spelling.classes(first), heard) for first in (False, True)]
        self._path, self._score, self._length = nothing_read(self._log_probs), 0.0, 0

    def __call__(self, logits: Tensor, so_far: list[int]) -> Tensor:
        """The joint scores of all tokens, (vocabulary,): minus infinity where neither side likes them.

        Args:
            logits: the LLM's, (vocabulary,).
            so_far: ids of the answer until now; those that are new since the last call are taken in.
        """
        for token in so_far[self._length :]:
            self._take(token)
        likely = logits.topk(min(CANDIDATES, len(logits))).indices.cpu()
        tried = torch.cat((likely, self._worth_trying[not self._length])).unique()
        read = self._scores(tried) - self._score
        joint = torch.full_like(logits, -torch.inf)
        joint[tried] = (1.0 - self._weight) * logits.log_softmax(-1)[tried] + self._weight * read.to(logits)
        return joint

    def _scores(self, tokens: Tensor) -> Tensor:
        """Log-probability that the clip begins with the answer so far and each of some tokens."""
        classes = self._spelling.classes(not self._length)[tokens]
        scores = torch.full((len(tokens),), self._score + FLOOR, dtype=torch.double)
        known = (classes[:, 0] > 0).nonzero().flatten()
        scores[known] = self._path.begins_with(self._log_probs, classes[known, 0])
        path = self._path
        for place in range(1, classes.shape[1]):
            # A beginning that is unlikelier than the floor gets no likelier by more classes.
            longer = (classes[known, place] > 0) & (scores[known] > self._score + FLOOR)
            if not longer.any():
                break
            known = known[longer]
            path = (path if place == 1 else path.of(longer)).then(self._log_probs, classes[known, place - 1])
            scores[known] = path.begins_with(self._log_probs, classes[known, place])
        scores[tokens == self._spelling.end] = self._path.ends()
        return scores

    def _take(self, token: int) -> None:
        """Move on by one token; one that cannot be spelled leaves its place as it is."""
        classes = self._spelling.classes(not self._length)[token]
        self._length += 1
        for class_ in classes[classes > 0]:
            self._score = float(self._path.begins_with(self._log_probs, class_[None]))
            self._path = self._path.then(self._log_probs, class_[None])


@dataclass(frozen=True)
class Paths:
    """Log-probabilities of having read each of n beginnings by each audio token.

    Attributes:
        read: by paths whose last audio token is the beginning's last class, (length, n).
        blank: by paths whose last audio token is a blank, (length, n).
        before: before the first audio token; 0 for the empty beginning, which is certain.
        last: each beginning's last class, (n,).
    """

    read: Tensor
    blank: Tensor
    before: float
    last: Tensor

    def of(self, some: Tensor) -> Paths:
        return Paths(self.read[:, some], self.blank[:, some], self.before, self.last[some])

    def ends(self) -> Tensor:
        """Log-probability that nothing comes after, (n,)."""
        return torch.logaddexp(self.read[-1], self.blank[-1])

    def begins_with(self, log_probs: Tensor, classes: Tensor) -> Tensor:
        """Log-probability that the clip begins with each beginning and a class more, (n,)."""
        return (self._arriving(classes) + log_probs[:, classes]).logsumexp(dim=0)

    def then(self, log_probs: Tensor, classes: Tensor) -> Paths:
        """The beginnings with a class more each.

        read[t] = log(exp(read[t-1]) + exp(arriving[t])) + emitted[t] and the like for blank, solved for all t.
        """
        emitted = log_probs[:, classes].cumsum(dim=0)
        read = (self._arriving(classes) - _shifted(emitted, 0.0)).logcumsumexp(dim=0) + emitted
        silent = log_probs[:, :1].cumsum(dim=0)
        blank = _shifted(read - silent, IMPOSSIBLE).logcumsumexp(dim=0) + silent
        return Paths(read, blank, IMPOSSIBLE, classes)

    def _arriving(self, classes: Tensor) -> Tensor:
        """Of standing before each audio token, ready for a class, (length, n); a repeated one needs a blank between."""
        either = _shifted(torch.logaddexp(self.read, self.blank), self.before)
        return torch.where(classes == self.last, _shifted(self.blank, self.before), either)


def _all_heard(table: Tensor, heard: Tensor) -> Tensor:
    """The tokens all of whose classes were heard; few begin with one that was."""
    begins = (heard[table[:, 0]] & (table[:, 0] > 0)).nonzero().flatten()
    return begins[heard[table[begins]].all(dim=1)]


def nothing_read(log_probs: Tensor) -> Paths:
    """The empty beginning."""
    impossible = torch.full_like(log_probs[:, :1], IMPOSSIBLE)
    return Paths(impossible, log_probs[:, :1].cumsum(dim=0), 0.0, torch.tensor([-1]))


def _shifted(values: Tensor, first: float) -> Tensor:
    """Each row one audio token later."""
    return torch.cat((torch.full_like(values[:1], first), values[:-1]))
