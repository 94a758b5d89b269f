"""How likely it is that a clip begins with something, by all paths of a CTC reading at once (Graves et al. 2006).

Prefix scores as in hybrid CTC/attention decoding (Watanabe et al. 2017, algorithm 2), of many beginnings in a row and
without a loop over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class Paths:
    """Log-probabilities of having read each of n beginnings by each frame.

    Attributes:
        read: by paths whose last frame is the beginning's last class, (length, n).
        blank: by paths whose last frame is a blank, (length, n).
        before: before the first frame, (n,); 0 for the empty beginning, which is certain.
        last: each beginning's last class, (n,).
    """

    read: Tensor
    blank: Tensor
    before: Tensor
    last: Tensor

    def of(self, some: Tensor) -> Paths:
        return Paths(self.read[:, some], self.blank[:, some], self.before[some], self.last[some])

    def replaced(self, some: Tensor, by: Paths) -> Paths:
        """These paths with some of them, (m,), replaced by m others."""
        if len(some) == len(self.last):
            return by
        return Paths(
            self.read.index_copy(1, some, by.read),
            self.blank.index_copy(1, some, by.blank),
            self.before.index_copy(0, some, by.before),
            self.last.index_copy(0, some, by.last),
        )

    def between(self, start: int, end: int) -> Paths:
        """Those parts of the paths; what is before `start` has to be too unlikely to matter."""
        before = torch.full_like(self.before, IMPOSSIBLE) if start else self.before
        return Paths(self.read[start:end], self.blank[start:end], before, self.last)

    def either(self) -> Tensor:
        """By paths that may end in either way, (length, n)."""
        return torch.logaddexp(self.read, self.blank)

    def ends(self) -> Tensor:
        """Log-probability that nothing comes after, (n,)."""
        return self.either()[-1]

    def begins_with(self, log_probs: Tensor, classes: Tensor) -> Tensor:
        """Log-probability that the clip begins with each beginning and a class more, (n,)."""
        return (self._arriving(classes) + log_probs[:, classes]).logsumexp(dim=0)

    def then(self, log_probs: Tensor, classes: Tensor) -> Paths:
        """The beginnings with a class more each.

        read[t] = log(exp(read[t-1]) + exp(arriving[t])) + emitted[t] and the like for blank, solved for all t.
        """
        emitted = log_probs[:, classes].cumsum(dim=0)
        silent = log_probs[:, :1].cumsum(dim=0)
        nothing, nowhere = torch.zeros_like(self.before), torch.full_like(self.before, IMPOSSIBLE)
        read = (self._arriving(classes) - _shifted(emitted, nothing)).logcumsumexp(dim=0) + emitted
        blank = _shifted(read - silent, nowhere).logcumsumexp(dim=0) + silent
        return Paths(read, blank, nowhere, classes)

    def _arriving(self, classes: Tensor) -> Tensor:
        """Of standing before each frame, ready for a class, (length, n); a repeated one needs a blank between."""
        either = _shifted(self.either(), self.before)
        return torch.where(classes == self.last, _shifted(self.blank, self.before), either)


def nothing_read(log_probs: Tensor) -> Paths:
    """The empty beginning."""
    impossible = torch.full_like(log_probs[:, :1], IMPOSSIBLE)
    certain = torch.zeros(1, dtype=log_probs.dtype)
    return Paths(impossible, log_probs[:, :1].cumsum(dim=0), certain, torch.tensor([-1]))


def collapsed(best: Tensor) -> list[int]:
    """What the likeliest class of each frame, (frames,), reads as: repeats merged, blanks dropped."""
    return [class_ for class_ in best.unique_consecutive().tolist() if class_]


def _shifted(values: Tensor, first: Tensor) -> Tensor:
    """Each row one frame later, after the `first`."""
    return torch.cat((first[None], values[:-1]))
