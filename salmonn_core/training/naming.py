"""The namer of the bridge: logistic regression from how some windows' features are spread to the labels of sounds.

It is fitted when instruction tuning starts, on spans of each clip and with speech as the counterexample. From then on
only the words that it adds are trained: trained on, it would soon know the few sounds of the set by heart.

It knows the sounds of its own set by heart anyway, and an LLM that is taught with its votes on those would believe it
blindly. So what the LLM hears of a clip while it learns comes from a namer that was fitted without it (`crossed`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from salmonn_core.bridge import Bridge
from salmonn_core.namer import VOICES, Namer, described, moments
from salmonn_core.training.corpus import Clip, Features
from salmonn_core.training.manifests import JOINED
from salmonn_core.training.pieces import Pieces
from salmonn_core.training.voices import gender_of

EPOCHS, BATCH, RATE, DECAY, DROPOUT = 150, 256, 2e-3, 0.1, 0.3
FOLDS = 5
FITS = 2  # whose mean is right more often than either, and is no larger: it is linear
MIXED, SHARES = 0.6, (0.25, 0.75)  # how often a span is of two clips, and how much of it is of the first
UNLIKELY = -4.0  # where the logits start
COUNTEREXAMPLES = 0.6  # clips of speech for each clip with labels
MUSIC_SHARE = 1.2  # pieces of music at most for each other sound, at a time
MOST_OF_A_VOICE = 40  # clips of one speaker, where it is told who speaks
LOUDNESS = 2.0  # of the words that a logit of one adds to a token; tokens are about 3.2 long


def labels_of(clip: Clip) -> list[str]:
    """What a sound or a piece of music is labelled with, each once, and of speech whose voice it is, where known.

    Of a question aloud over a sound it is the sound behind the voice. Nothing for scenes.
    """
    if clip.task == "co_reasoning":
        return list(dict.fromkeys(clip.row.get("background") or ()))  # type: ignore[call-overload]
    if clip.kind == "speech":
        gender = gender_of(clip.row) if clip.task in (None, "asr") else None
        return [f"{gender}'s voice"] if gender else []
    if clip.task not in (None, "audiocaption", "music_description"):
        return []
    facts = [f"{clip.row[key]} {noun}" for key, noun in (("tempo", "tempo"), ("mode", "key")) if clip.row.get(key)]
    labels: list[str] = [*(clip.row.get("labels") or ()), *(clip.row.get("instruments") or ())]  # type: ignore[misc]
    return list(dict.fromkeys([*labels, *facts]))


def unspoken(clips: Sequence[Clip]) -> list[Clip]:
    """The clips that are not plain speech."""
    return [clip for clip in clips if clip.kind != "speech" or clip.task not in (None, "asr")]


def known_labels(clips: Sequence[Clip]) -> list[str]:
    """All labels of a set, sorted; voices if there are both."""
    found = {label for clip in clips for label in labels_of(clip)}
    return sorted(found if found.issuperset(VOICES) else found.difference(VOICES))


def targets(clips: Sequence[Clip], labels: Sequence[str]) -> Tensor:
    """(clips, labels), one where a clip has the label; labels that are not known do not count."""
    number = {label: i for i, label in enumerate(labels)}
    found = torch.zeros(len(clips), len(labels))
    for row, clip in enumerate(clips):
        found[row, [number[label] for label in labels_of(clip) if label in number]] = 1.0
    return found


def words_of(labels: Sequence[str], embeddings: Tensor, pieces: Pieces) -> Tensor:
    """(labels, width) directions of each label's words, without what they all have in common; of voices zeros."""
    mean = torch.stack([F.normalize(embeddings[pieces.ids(label)].float(), dim=-1).mean(dim=0) for label in labels])
    sounds = torch.tensor([label not in VOICES for label in labels])
    return F.normalize(mean - mean[sounds].mean(dim=0), dim=-1) * sounds[:, None]


def fit(bridge: Bridge, clips: Sequence[Clip], features: Features, labels: Sequence[str], words: Tensor) -> None:
    """Fit the bridge's namer on the clips of a set.

    Args:
        words: of the labels, (labels, llm_width).
    """
    if bridge.namer is None:
        raise ValueError("this bridge has no namer")
    chosen = _chosen(clips)
    sums, wanted = _running_sums(bridge, features, chosen), targets(chosen, labels)
    fits = [
        _regression(_Spans(chosen, sums, wanted, number), f"naming, {number + 1} of {FITS}") for number in range(FITS)
    ]
    weight, bias = (torch.stack(parts).mean(dim=0) for parts in zip(*fits, strict=True))
    with torch.no_grad():
        bridge.namer.label.weight.copy_(weight)
        bridge.namer.label.bias.copy_(bias)
        bridge.namer.words.weight.copy_(LOUDNESS * words.T)
    _Voices.fitted(bridge, clips, features, labels).tell(bridge.namer)


def crossed(bridge: Bridge, clips: Sequence[Clip], features: Features, labels: Sequence[str]) -> dict[str, Tensor]:
    """What namers that were fitted without a clip hear in it: its windows' logits, (windows, labels), by path.

    Of a clip that is made of others it is one that was fitted without the first sound among them.
    """
    namer = Namer(bridge.ln_speech.normalized_shape[0] + bridge.ln_audio.normalized_shape[0], len(labels), 1)
    chosen = _chosen(clips)
    sums, wanted = _running_sums(bridge, features, chosen), targets(chosen, labels)
    alone = [clip for clip in chosen if clip.kind != "speech"]
    groups = {key: _group(clip) for clip in alone for key in (clip.path, clip.row.get("source"))}
    folds = [_fold(_first_group(clip, groups)) for clip in chosen]
    sounds = [(clip, _fold(_first_group(clip, groups))) for clip in unspoken(clips)]
    voices = _Voices.fitted(bridge, clips, features, labels)  # of so many clips that none is known by heart
    found: dict[str, Tensor] = {}
    for number in range(FOLDS):
        known = [row for row, fold in enumerate(folds) if fold != number]
        spans = _Spans([chosen[row] for row in known], [sums[row] for row in known], wanted[known])
        weight, bias = _regression(spans, f"naming without part {number + 1}")
        namer.label.weight.data, namer.label.bias.data = weight.expand_as(namer.label.weight).clone(), bias
        voices.tell(namer)
        found |= {clip.path: votes_of(namer, bridge, features, clip.path) for clip, fold in sounds if fold == number}
    return found


@torch.inference_mode()
def votes_of(namer: Namer, bridge: Bridge, features: Features, path: str) -> Tensor:
    """What a namer hears in a clip: its windows' logits, (windows, labels), float16."""
    return namer.logits(bridge.windows(bridge.join(*features[path]))).half()


@dataclass(frozen=True)
class _Voices:
    """What tells a man's voice from a woman's: rows of a namer, none where a set does not have both."""

    rows: list[int]
    weight: Tensor
    bias: Tensor

    @classmethod
    def fitted(cls, bridge: Bridge, clips: Sequence[Clip], features: Features, labels: Sequence[str]) -> _Voices:
        """Of every speaker that is known to be one as many clips, or all."""
        rng, spoken = random.Random("voices"), dict[str, list[Clip]]()
        for clip in clips:
            if clip.kind == "speech" and labels_of(clip):
                spoken.setdefault(str(clip.row.get("speaker")), []).append(clip)
        rows = [labels.index(voice) for voice in VOICES if voice in labels]
        if not rows or not spoken:
            return cls([], torch.zeros(0, 1), torch.zeros(0))
        chosen = [clip for of_one in spoken.values() for clip in rng.sample(of_one, min(len(of_one), MOST_OF_A_VOICE))]
        spans = _Spans(chosen, _running_sums(bridge, features, chosen), targets(chosen, list(VOICES)))
        return cls(rows, *_regression(spans, "voices"))

    def tell(self, namer: Namer) -> None:
        namer.label.weight.data[self.rows], namer.label.bias.data[self.rows] = self.weight, self.bias


def _first_group(clip: Clip, groups: Mapping[object, str]) -> str:
    """The group of the first sound that a clip is made of."""
    parts = [*clip.path.split(JOINED), clip.row.get("background_source")]
    return next((groups[part] for part in parts if part in groups), _group(clip))


@torch.inference_mode()
def _running_sums(bridge: Bridge, features: Features, clips: Sequence[Clip]) -> list[Tensor]:
    """Of each clip's moments over its windows, (windows + 1, 3, width): those of any span are a difference of two."""
    measured = [moments(bridge.windows(bridge.join(*features[clip.path]))) for clip in clips]
    return [F.pad(each.cumsum(dim=0), (0, 0, 0, 0, 1, 0)) for each in measured]


def _group(clip: Clip) -> str:
    """Clips of one recording stay together."""
    return str(clip.row.get("group") or clip.path)


def _fold(group: str) -> int:
    return random.Random(f"fold {group}").randrange(FOLDS)


def _named(clip: Clip) -> bool:
    """Whether a clip has a label that is not just a voice."""
    return bool(set(labels_of(clip)).difference(VOICES))


def _chosen(clips: Sequence[Clip]) -> list[Clip]:
    """The sounds with labels, alone or behind a voice, and speech as counterexamples."""
    sounds = [clip for clip in clips if _named(clip)]
    speech = [clip for clip in clips if clip.kind == "speech" and not _named(clip)]
    return [*sounds, *random.Random("namer").sample(speech, min(len(speech), round(COUNTEREXAMPLES * len(sounds))))]


class _Spans:
    """Random spans of some clips, often of two at once: one sound follows another, or someone speaks over it."""

    def __init__(self, clips: Sequence[Clip], sums: Sequence[Tensor], wanted: Tensor, seed: int = 0) -> None:
        """Args: sums: of `_running_sums`; wanted: (clips, labels) of `targets`; seed: of the spans that are drawn."""
        self._sums, self._wanted = sums, wanted
        self.labels = wanted.shape[1]
        self._rng = random.Random(f"spans {seed}")
        self._music = [row for row, clip in enumerate(clips) if clip.kind == "music"]
        self._others = [row for row, clip in enumerate(clips) if clip.kind != "music"]
        sounds = sum(clip.kind != "music" and _named(clip) for clip in clips)
        self._most_music = round(MUSIC_SHARE * sounds) if sounds else len(self._music)

    def __len__(self) -> int:
        return len(self._sums)

    def draw(self) -> tuple[Tensor, Tensor]:
        """A span of each clip, described, (clips, width), and the labels of what is in it, (clips, labels).

        Of much music a part in turn: a sound must not be taken for music because music is rendered so easily.
        """
        music = self._rng.sample(self._music, min(len(self._music), self._most_music))
        rows = sorted([*self._others, *music])
        spans, wanted = torch.stack([self._span(self._sums[row]) for row in rows]), self._wanted[rows]
        other = torch.tensor(self._rng.sample(range(len(rows)), len(rows)))
        share = torch.tensor([self._share() for _ in rows])
        # The moments of two sounds are those of each in its share: nothing has to be computed again.
        spans = torch.lerp(spans[other], spans, share[:, None, None])
        both = (share < 1.0)[:, None] * wanted[other]
        return described(spans), torch.maximum(wanted, both)

    def _share(self) -> float:
        """How much of a span is of the clip itself."""
        return self._rng.uniform(*SHARES) if self._rng.random() < MIXED else 1.0

    def _span(self, total: Tensor) -> Tensor:
        """The moments of some windows in a row, from one to all of them, given their running sum."""
        windows = len(total) - 1
        length = max(1, round(windows * self._rng.random()))
        start = self._rng.randint(0, windows - length)
        return (total[start + length] - total[start]) / length


def _regression(spans: _Spans, name: str) -> tuple[Tensor, Tensor]:
    """Weight (labels, width) and bias (labels,) for spans as they are; of no clips nothing is learned."""
    if not len(spans):
        return torch.zeros(spans.labels, 1), torch.full((spans.labels,), UNLIKELY)
    seen, _ = spans.draw()
    centre, spread = seen.mean(dim=0), seen.std(dim=0, correction=0) + 1e-5
    linear = nn.Linear(len(centre), spans.labels)
    nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, UNLIKELY)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=RATE, weight_decay=DECAY)
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    rng = random.Random(name)
    for _ in tqdm(range(EPOCHS), desc=name):
        seen, wanted = spans.draw()
        now = (seen - centre) / spread
        for rows in torch.tensor(rng.sample(range(len(now)), len(now))).split(BATCH):
            logits = linear(F.dropout(now[rows], DROPOUT))
            loss = F.binary_cross_entropy_with_logits(logits, wanted[rows], reduction="none").sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        cooling.step()
    weight = (linear.weight / spread).detach()
    return weight, (linear.bias - weight @ centre).detach()
