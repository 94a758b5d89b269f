"""Which examples a step trains on: a function of seed, epoch and position alone, so that a run resumes exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from salmonn_core.namer import Names
from salmonn_core.training.corpus import Clip, Features, bucketed
from salmonn_core.training.tasks import Example, allowed, draw, nothing_named, text_example

REPEATS = {"event": 6, "music": 3}


@dataclass
class Sampler:
    """Endless length-bucketed batches; `epoch` and `position` are all the state there is."""

    clips: list[Clip]
    features: Features
    answers: Mapping[str, str]
    stage: str
    budget: int
    seed: int
    commands: Sequence[Clip] = ()  # asked in text alone
    text_examples: int = 0  # of them, and of scenes, a batch
    names: Callable[[str, str], Names] = nothing_named  # what the namer hears of a path, when asked
    labels: Sequence[str] = ()  # what it knows
    heard: Callable[[Clip, random.Random], Clip] = lambda clip, _: clip  # a command in text as it may be transcribed
    epoch: int = 0
    position: int = 0
    _order: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clips = [c for c in self.clips if allowed(c, self.stage, self.answers)]
        self._draws = [
            (i, self.features.frames(c.path)) for i, c in enumerate(self.clips) for _ in range(self._repeats(c))
        ]
        self.seek(self.epoch, self.position)

    def seek(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._order = list(bucketed(self._draws, self.budget, random.Random(f"{self.seed} order {epoch}")))

    def batch(self) -> list[Example]:
        """The next batch of the whole run, all processes together."""
        if self.position >= len(self._order):
            self.seek(self.epoch + 1, 0)
        rng = random.Random(f"{self.seed} draw {self.epoch} {self.position}")
        chosen = self._order[self.position]
        self.position += 1
        clips = [self.clips[i] for i in chosen]
        spoken = [draw(clip, self.stage, self.answers, rng, self.names) for clip in clips]
        asked = rng.sample(self.commands, min(self.text_examples, len(self.commands)))
        heard = [self.heard(clip, rng) for clip in asked]
        return spoken + [text_example(clip, self.labels, rng) for clip in heard]

    def _repeats(self, clip: Clip) -> int:
        """Sounds and answered questions are few; they are drawn more often than plain transcripts."""
        if self.stage in ("letters", "align"):
            return 1
        answered = any(f"{task}:{clip.text}" in self.answers for task in ("QA", "story"))
        return REPEATS.get(clip.kind, 3 if answered else 1)
