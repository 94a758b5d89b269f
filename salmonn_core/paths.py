"""How likely it is that a clip begins with something, by all paths of a CTC reading at once (Graves et al. 2006).

Prefix scores as in hybrid CTC/attention decoding (Watanabe et al. 2017, algorithm 2), of many beginnings in a row and
without a loop over time or a logarithm: probabilities stand beside those of the likeliest path, and the recurrence is
solved for blocks of frames, within which no product leaves the range of a float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Log-probability of what cannot be read at all: a name that the reader never learned can still be written.
FLOOR = -14.0
BLOCK = 32  # frames; FLOOR times that is far from the smallest float64
APART = 400.0  # nats that probabilities may be apart, and still have something to multiply with
NOTHING = 1e-300  # whose logarithm stands for that of 0


@dataclass(frozen=True)
class Clip:
    """What a reading gives for each frame; what is asked of it comes in whole blocks, and nothing is copied before.

    Attributes:
        log_probs: (length, classes) float32.
        best: log-probability of each frame's likeliest class, (length,) float64.
        worth: that of the likeliest path up to each frame and with it, (length,) float64.
        frames: length of the blocks, which may go on behind the clip's end.
    """

    log_probs: np.ndarray
    best: np.ndarray
    worth: np.ndarray
    frames: int

    def between(self, start: int, end: int) -> Clip:
        """Some whole blocks."""
        return Clip(self.log_probs[start:end], self.best[start:end], self.worth[start:end], end - start)

    def shares(self, classes: np.ndarray | slice) -> np.ndarray:
        """Probabilities of some classes beside the likeliest one's, (n, frames) float64; ones behind the clip's end."""
        behind = np.maximum(self.log_probs[:, classes], FLOOR) - self.best[:, None]
        shares = np.ones((behind.shape[1], self.frames))
        np.exp(behind.T, out=shares[:, : len(behind)])
        return shares

    @cached_property
    def silent(self) -> np.ndarray:
        """The blank's `shares`, (1, frames)."""
        return self.shares(slice(1))

    def begins(self, coming: np.ndarray) -> np.ndarray:
        """Log-probability that something begins at one of the frames, (n,).

        Args:
            coming: that it does at each, (n, frames), beside the likeliest path until there.
        """
        coming = coming[:, : len(self.worth)]
        if self._counts is not None:
            return np.log(np.maximum(coming @ self._counts, NOTHING)) + self.worth[0]
        first = self.worth[(coming > 0.0).argmax(axis=1)]  # each beside the first frame where it may come
        found = (coming * np.exp(np.minimum(self.worth - first[:, None], 0.0))).sum(axis=1)
        return np.log(np.maximum(found, NOTHING)) + first

    @cached_property
    def _counts(self) -> np.ndarray | None:
        """The likeliest path's probability at each frame beside that at the first; None where they are too far."""
        return np.exp(self.worth - self.worth[0]) if self.worth[-1] - self.worth[0] > -APART else None


def clip_of(log_probs: np.ndarray) -> Clip:
    """Log-probabilities of a reading, (frames, classes) float32; none counts as less than FLOOR."""
    best = log_probs.max(axis=1).astype(np.float64)
    return Clip(log_probs, best, best.cumsum(), -(-len(best) // BLOCK) * BLOCK)


@dataclass(frozen=True)
class Paths:
    """Probabilities of having read each of n beginnings by each frame, beside the likeliest path until there.

    Attributes:
        read: by paths whose last frame is the beginning's last class, (n, frames).
        blank: by paths whose last frame is a blank, (n, frames).
        before: before the first frame, (n,); 1 for the empty beginning, which is certain.
        last: each beginning's last class, (n,).
        scale: log of what all these probabilities are to be multiplied by, (n,).
    """

    read: np.ndarray
    blank: np.ndarray
    before: np.ndarray
    last: np.ndarray
    scale: np.ndarray

    def of(self, some: np.ndarray) -> Paths:
        return Paths(self.read[some], self.blank[some], self.before[some], self.last[some], self.scale[some])

    def replaced(self, some: np.ndarray, by: Paths) -> Paths:
        """These paths with some of them, (m,), replaced by m others."""
        if len(some) == len(self.last):
            return by
        new = Paths(self.read.copy(), self.blank.copy(), self.before.copy(), self.last.copy(), self.scale.copy())
        new.read[some], new.blank[some], new.before[some] = by.read, by.blank, by.before
        new.last[some], new.scale[some] = by.last, by.scale
        return new

    def between(self, start: int, end: int) -> Paths:
        """Those parts of the paths; what is before `start` has to be too unlikely to matter."""
        before = np.zeros_like(self.before) if start else self.before
        return Paths(self.read[:, start:end], self.blank[:, start:end], before, self.last, self.scale)

    def ends(self, clip: Clip) -> np.ndarray:
        """Log-probability that nothing comes after, (n,)."""
        last = len(clip.worth) - 1
        standing = self.read[:, last] + self.blank[:, last]
        return np.log(np.maximum(standing, NOTHING)) + clip.worth[last] + self.scale

    def after(self, frames: int) -> Paths:
        """The same, with what is missing of all frames before these."""
        missing = np.zeros((len(self.last), frames - self.read.shape[1]))
        read, blank = np.concatenate((missing, self.read), axis=1), np.concatenate((missing, self.blank), axis=1)
        return Paths(read, blank, self.before, self.last, self.scale)

    def either(self) -> np.ndarray:
        """By paths that may end in either way, (n, frames)."""
        standing: np.ndarray = self.read + self.blank
        return standing

    def arriving(self, some: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Of some of them, (m,), ready for a class before each frame, (m, frames); one again needs a blank between."""
        either = later(self.either(), self.before)[some]
        again = (classes == self.last[some]).nonzero()[0]
        if len(again):
            either[again] = later(self.blank, self.before)[some[again]]
        return either

    def then(
        self, clip: Clip, some: np.ndarray, classes: np.ndarray, arriving: np.ndarray, shares: np.ndarray
    ) -> Paths:
        """Some of the beginnings, (m,), with a class more each, of which `arriving` and the `shares` are known."""
        nowhere = np.zeros(len(some))
        read = _all_of(arriving, shares)
        blank = _all_of(later(read, nowhere), clip.silent)
        return Paths(read, blank, nowhere, classes, self.scale[some])

    def scaled(self) -> Paths:
        """The same with a likeliest place of 1, so that long answers do not vanish."""
        best = np.maximum(np.maximum(self.read, self.blank).max(axis=1), self.before)
        best = np.maximum(best, NOTHING)
        read, blank = self.read / best[:, None], self.blank / best[:, None]
        return Paths(read, blank, self.before / best, self.last, self.scale + np.log(best))


def nothing_read(clip: Clip) -> Paths:
    """The empty beginning."""
    silent = clip.silent.cumprod(axis=1)
    return Paths(np.zeros_like(silent), silent, np.ones(1), np.array([-1]), np.zeros(1))


def collapsed(best: np.ndarray) -> list[int]:
    """What the likeliest class of each frame, (frames,), reads as: repeats merged, blanks dropped."""
    return [int(class_) for class_ in best[emits(best)]]


def emits(best: np.ndarray) -> np.ndarray:
    """Where something begins that is no blank, (frames,) bool."""
    begins: np.ndarray = (best != 0) & (best != np.concatenate(([0], best[:-1])))
    return begins


def _all_of(arriving: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """held[t] = (held[t - 1] + arriving[t]) * shares[t] from nothing on, for all t; all (n, frames)."""
    blocks = arriving.reshape(len(arriving), -1, BLOCK)
    product = shares.reshape(len(shares), -1, BLOCK).cumprod(axis=2)
    earlier = np.ones_like(product)
    earlier[..., 1:] = product[..., :-1]
    held: np.ndarray = (blocks / earlier).cumsum(axis=2)
    held *= product
    for block in range(1, held.shape[1]):
        held[:, block] += product[:, block] * held[:, block - 1, -1:]
    return held.reshape(arriving.shape)


def later(values: np.ndarray, first: np.ndarray | float) -> np.ndarray:
    """Each column one to the right, after the `first`."""
    moved = np.empty_like(values)
    moved[:, 0], moved[:, 1:] = first, values[:, :-1]
    return moved
