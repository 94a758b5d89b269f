"""What the audio tokens say by themselves, and how that keeps the LLM to the words that were spoken.

The alignment (docs/training.md) puts each audio token beside the input embedding of the word that is spoken there, or
beside a learned blank. Read as CTC (Graves et al. 2006) the tokens alone are a rough transcript. Added to the LLM's
own scores while it writes one (hybrid CTC/attention decoding, Watanabe et al. 2017, eq. 27 and algorithm 2, here
greedily), they stop it from running on, skipping or making up what nobody said.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = (
    -14.0
)  # log-probability of what cannot be read at all: a name that the reader never learned can still be written
HEARD = -5.0  # a token is worth trying where some audio token gives it at least this
CANDIDATES = 20  # the LLM's likeliest tokens, tried beside those that were heard
IMPOSSIBLE = -1e9
SPACE = "\u0120"  # how byte-level tokenizers write a word's leading space


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
        best = self(audio_tokens).argmax(dim=-1).tolist()
        return [self.tokens[c - 1] for i, c in enumerate(best) if c and (i == 0 or best[i - 1] != c)]


class Spelling:
    """Which class of a reader an LLM's token is, at the start of an answer and inside it.

    The reader knows words as inside a sentence, with their space; an answer's first word has none.
    """

    def __init__(self, reader: Reader, tokenizer: Any) -> None:
        self.end: int = tokenizer.eos_token_id
        self._inside = torch.zeros(len(tokenizer), dtype=torch.long)
        self._inside[reader.tokens] = torch.arange(1, len(reader.tokens) + 1)
        known = tokenizer.get_vocab()
        spaced = [(known[text[1:]], id_) for text, id_ in known.items() if text.startswith(SPACE) and text[1:] in known]
        bare, within = torch.tensor(spaced, dtype=torch.long).reshape(-1, 2).T
        self._first = self._inside.clone()
        self._first[bare], self._first[within] = self._inside[within], 0

    def classes(self, at_start: bool) -> Tensor:
        """(vocabulary,) class of each token; 0 where it has none."""
        return self._first if at_start else self._inside


class Guide:
    """Scores of the next token by the LLM and the audio tokens together, for one answer.

    Args:
        log_probs: what `Reader` gives for the clip, (length, 1 + classes).
        weight: of the reading, 0 to 1; the LLM has the rest.
    """

    def __init__(self, log_probs: Tensor, spelling: Spelling, weight: float) -> None:
        self._log_probs = log_probs.float().cpu().clamp_min(FLOOR)
        self._spelling, self._weight = spelling, weight
        heard = torch.zeros(log_probs.shape[-1], dtype=torch.bool)
        heard[1:] = self._log_probs[:, 1:].amax(dim=0) > HEARD
        self._worth_trying = [heard[spelling.classes(first)].nonzero().flatten() for first in (False, True)]
        # Log-probability of having read the answer so far by each audio token, the last one read or a blank.
        self._read = torch.full((len(log_probs),), IMPOSSIBLE)
        self._blank = self._log_probs[:, 0].cumsum(0)
        self._before_any = 0.0  # of having read it before the first audio token: certain for the empty answer
        self._score, self._last, self._length = 0.0, -1, 0

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
        joint[tried] = (1.0 - self._weight) * logits.log_softmax(-1)[tried] + self._weight * read.to(logits.device)
        return joint

    def _scores(self, tokens: Tensor) -> Tensor:
        """Log-probability that the clip begins with the answer so far and each of some tokens."""
        classes = self._spelling.classes(not self._length)[tokens]
        scores = torch.full((len(tokens),), self._score + FLOOR)
        known = classes > 0
        scores[known] = self._begins_with(classes[known])
        scores[tokens == self._spelling.end] = torch.logaddexp(self._read[-1], self._blank[-1])
        return scores

    def _begins_with(self, classes: Tensor) -> Tensor:
        reached = _shifted(torch.logaddexp(self._read, self._blank), self._before_any)
        emitted = self._log_probs[:, classes]
        scores = (reached[:, None] + emitted).logsumexp(dim=0)
        same = classes == self._last  # a repeated token needs a blank between
        if same.any():
            after_blank = _shifted(self._blank, self._before_any)
            scores[same] = (after_blank[:, None] + emitted[:, same]).logsumexp(dim=0)
        return scores

    def _take(self, token: int) -> None:
        """Move on by one token; one that the reader does not know leaves its place as it is."""
        found = int(self._spelling.classes(not self._length)[token])
        self._length += 1
        if not found:
            return
        self._score = float(self._begins_with(torch.tensor([found])))
        came_from = self._blank if found == self._last else torch.logaddexp(self._read, self._blank)
        arriving = _shifted(came_from, self._before_any).tolist()
        emitted, blank = self._log_probs[:, found].tolist(), self._log_probs[:, 0].tolist()
        read, rest, reads, rests = IMPOSSIBLE, IMPOSSIBLE, [], []
        for arrived, here, nothing in zip(arriving, emitted, blank, strict=True):
            read, rest = _add(read, arrived) + here, _add(rest, read) + nothing
            reads.append(read)
            rests.append(rest)
        self._read, self._blank = torch.tensor(reads), torch.tensor(rests)
        self._before_any, self._last = IMPOSSIBLE, found


def _shifted(values: Tensor, first: float) -> Tensor:
    """Each value one audio token later."""
    return torch.cat((torch.tensor([first]), values[:-1]))


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); a scalar recursion is faster without tensors."""
    low, high = (a, b) if a < b else (b, a)
    return high + math.log1p(math.exp(low - high))
