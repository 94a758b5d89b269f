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
    """What a reading gives for each frame, in whole blocks; of those behind the clip's end nothing is counted.

    Attributes:
        shares: probability of each class beside that of the frame's likeliest, (classes, frames).
        worth: log-probability of the likeliest path up to each frame and with it, (frames,).
        length: frames of the clip.
    """

    shares: np.ndarray
    worth: np.ndarray
    length: int

    def between(self, start: int, end: int) -> Clip:
        """Some whole blocks."""
        return Clip(self.shares[:, start:end], self.worth[start:end], min(self.length, end) - start)

    def of(self, classes: np.ndarray | slice) -> np.ndarray:
        """The shares of some classes, (n, frames) float64."""
        return self.shares[classes].astype(np.float64)

    def begins(self, arriving: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Log-probability that a class comes next, (n,), beside what the `arriving` ones, (n, frames), stand beside."""
        coming = (arriving * self.of(classes))[:, : self.length]
        if self._counts is not None:
            return np.log(np.maximum(coming @ self._counts, NOTHING)) + self.worth[0]
        worth = self.worth[: self.length]
        first = worth[(coming > 0.0).argmax(axis=1)]  # each beside the first frame where it may come
        found = (coming * np.exp(np.minimum(worth - first[:, None], 0.0))).sum(axis=1)
        return np.log(np.maximum(found, NOTHING)) + first

    @cached_property
    def _counts(self) -> np.ndarray | None:
        """The likeliest path's probability at each frame beside that at the first; None where they are too far."""
        worth = self.worth[: self.length]
        return np.exp(worth - worth[0]) if worth[-1] - worth[0] > -APART else None


def clip_of(log_probs: np.ndarray) -> Clip:
    """Log-probabilities of a reading, (frames, classes) float32, none of them below FLOOR."""
    length, classes = log_probs.shape
    best = log_probs.max(axis=1)
    whole = -(-length // BLOCK) * BLOCK
    shares, worth = np.empty((classes, whole), np.float32), np.zeros(whole)  # thousands of classes: half the memory
    shares[:, length:] = 1.0
    np.exp((log_probs - best[:, None]).T, out=shares[:, :length])
    worth[:length] = best.cumsum(dtype=np.float64)
    worth[length:] = worth[length - 1]
    return Clip(shares, worth, length)


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
        last = clip.length - 1
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
        either = _later(self.either(), self.before)[some]
        again = (classes == self.last[some]).nonzero()[0]
        if len(again):
            either[again] = _later(self.blank, self.before)[some[again]]
        return either

    def then(self, clip: Clip, some: np.ndarray, classes: np.ndarray, arriving: np.ndarray) -> Paths:
        """Some of the beginnings, (m,), with a class more each, of which `arriving` is known."""
        nowhere = np.zeros(len(some))
        read = _all_of(arriving, clip.of(classes))
        blank = _all_of(_later(read, nowhere), clip.of(slice(1)))
        return Paths(read, blank, nowhere, classes, self.scale[some])

    def scaled(self) -> Paths:
        """The same with a likeliest place of 1, so that long answers do not vanish."""
        best = np.maximum(np.maximum(self.read, self.blank).max(axis=1), self.before)
        best = np.maximum(best, NOTHING)
        read, blank = self.read / best[:, None], self.blank / best[:, None]
        return Paths(read, blank, self.before / best, self.last, self.scale + np.log(best))


def nothing_read(clip: Clip) -> Paths:
    """The empty beginning."""
    silent = clip.of(slice(1)).cumprod(axis=1)
    return Paths(np.zeros_like(silent), silent, np.ones(1), np.array([-1]), np.zeros(1))


def collapsed(best: np.ndarray) -> list[int]:
    """What the likeliest class of each frame, (frames,), reads as: repeats merged, blanks dropped."""
    begins = best != np.concatenate(([-1], best[:-1]))
    return [int(class_) for class_ in best[begins & (best != 0)]]


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


def _later(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Each column one frame later, after the `first`."""
    moved = np.empty_like(values)
    moved[:, 0], moved[:, 1:] = first, values[:, :-1]
    return moved
