"""Token-by-token generation over a KV cache: greedy or sampled, constrained by a pattern, cancellable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import regex
import torch
from torch import Tensor

from salmonn_core.beams import Search, follow
from salmonn_core.errors import UserError
from salmonn_core.llm import Llm, State, gaps_filled
from salmonn_core.reading import Guide

CANDIDATES = 256  # how many of the likeliest tokens are tried against a pattern


class Tokenizer(Protocol):
    """What is needed of a transformers tokenizer."""

    eos_token_id: int

    def decode(self, ids: list[int], **options: Any) -> str: ...


@dataclass(frozen=True)
class GenerationOptions:
    """How an answer is generated.

    Attributes:
        max_new_tokens: cut the answer there.
        min_new_tokens: do not end it before.
        temperature: 0 is greedy; otherwise sample from the tempered distribution.
        top_p: nucleus of the sampled distribution.
        seed: of the sampler; None is a fresh one each time.
        lora_scale: test-time discount of the LoRA (paper, section 4.2); 1 is as trained, 0 the bare LLM.
        repetition_penalty: divides the logits of tokens already in the answer; 1 is off.
        pattern: regular expression that the whole answer must match; `<WordsHere>` in it stands for any few words in
            a row of the clip's transcript, and `<Said:NAME>` for the phrase of that name in `spot` that was said, in
            quotes, or null.
        spot: phrases by name, of which at most one each is listened for (`Salmonn.spot`).
        reading_weight: how much the audio tokens' own reading, and letters where the model reads them, count beside the
            LLM (`salmonn_core.reading`): for transcripts; 0 is off. Models that cannot be read, and questions in text
            alone, go without.
        words_first: write a transcript first and put it into the prompt as text, for questions about words.
        names_first: put what the bridge's namer hears into the prompt as text, for questions about sounds.
        heard_first: begin the answer with a sentence of what sounds, for stories; not where there are words alone.
    """

    max_new_tokens: int = 96
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int | None = None
    lora_scale: float = 1.0
    repetition_penalty: float = 1.0
    pattern: str | None = None
    spot: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reading_weight: float = 0.0
    words_first: bool = False
    names_first: bool = False
    heard_first: bool = False


class Choice:
    """Chooses the next token from the logits, as the options say.

    Attributes:
        end: the token that ends an answer.
        most: how many tokens it may have.
    """

    def __init__(self, options: GenerationOptions, tokenizer: Tokenizer, guide: Guide | None = None) -> None:
        self._options, self._tokenizer, self._guide = options, tokenizer, guide
        self.end, self.most = tokenizer.eos_token_id, options.max_new_tokens
        self._generator = torch.Generator()
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)
        self._pattern = regex.compile(options.pattern) if options.pattern else None

    def __call__(self, logits: Tensor, so_far: list[int]) -> int:
        """The id of the next token.

        Args:
            logits: (vocabulary,)
            so_far: ids of the answer until now.
        """
        logits = self._unended(self._penalised(logits.float(), so_far), so_far)
        if self._guide is not None:
            logits = self._guide(logits, so_far)
        if self._pattern is not None:
            return self._matching(logits, so_far)
        if self._options.temperature <= 0.0:
            return int(logits.argmax())
        return self._sampled(logits)

    def _penalised(self, logits: Tensor, so_far: list[int]) -> Tensor:
        penalty = self._options.repetition_penalty
        if penalty == 1.0 or not so_far:
            return logits
        seen = torch.tensor(sorted(set(so_far)), device=logits.device)
        chosen = logits[seen]
        return logits.index_copy(0, seen, torch.where(chosen > 0, chosen / penalty, chosen * penalty))

    def _unended(self, logits: Tensor, so_far: list[int]) -> Tensor:
        if len(so_far) >= self._options.min_new_tokens:
            return logits
        return logits.index_fill(0, torch.tensor([self.end], device=logits.device), -torch.inf)

    def _sampled(self, logits: Tensor) -> int:
        probabilities, ids = (logits.cpu() / self._options.temperature).softmax(-1).sort(descending=True)
        outside = probabilities.cumsum(-1) - probabilities > self._options.top_p
        kept = probabilities.masked_fill(outside, 0.0)
        return int(ids[torch.multinomial(kept, 1, generator=self._generator)])

    def _matching(self, logits: Tensor, so_far: list[int]) -> int:
        """The likeliest token after which the answer can still match the pattern."""
        assert self._pattern is not None
        text = self._tokenizer.decode(so_far)
        for candidate in logits.topk(min(CANDIDATES, len(logits))).indices.tolist():
            if candidate == self._tokenizer.eos_token_id:
                if self._pattern.fullmatch(text):
                    return int(candidate)
                continue
            longer = self._tokenizer.decode([*so_far, candidate])
            if len(longer) > len(text) and self._pattern.fullmatch(longer, partial=True):
                return int(candidate)
        if self._pattern.fullmatch(text):
            return self._tokenizer.eos_token_id
        return self._forced(text, logits)

    def _forced(self, text: str, logits: Tensor) -> int:
        """None of the likely tokens fits: search the whole vocabulary by single printable tokens."""
        assert self._pattern is not None
        for candidate in logits.argsort(descending=True).tolist():
            piece = self._tokenizer.decode([candidate])
            if piece and "\ufffd" not in piece and self._pattern.fullmatch(text + piece, partial=True):
                return int(candidate)
        raise UserError(f"no token can continue {text!r} under the pattern {self._options.pattern!r}")


def only_match(pattern: str | None) -> str | None:
    """The text that a pattern leaves no choice about, or None: nothing has to be generated."""
    if not pattern or not regex.fullmatch(r"(?:[^\\.^$*+?{}\[\]|()]|\\[^\w])*", pattern):
        return None
    return regex.sub(r"\\(.)", r"\1", pattern)


@torch.inference_mode()
def generate(
    llm: Llm,
    tokenizer: Tokenizer,
    prompt: Tensor,
    options: GenerationOptions,
    cancelled: Callable[[], bool] = lambda: False,
    prefix: State | None = None,
    after_prompt: Callable[[State], None] = lambda _: None,
    guide: Guide | None = None,
) -> Iterator[int]:
    """Yield token ids until the end token, the limit or a cancellation.

    Args:
        prompt: (positions, width) input embeddings.
        cancelled: asked before each step, so that a cancelled answer stops within one token.
        prefix: the state of what stands before the prompt.
        guide: scores the next token too; where nothing else constrains it, several beginnings are followed at a time.
        after_prompt: given the state when the prompt is read, to keep a copy of what the next question can use.
    """
    choose = Choice(options, tokenizer, guide)
    ids: list[int] = []
    if cancelled():
        return
    state, logits = llm.prefill([prompt], options.lora_scale, [prefix])
    after_prompt(state)
    if search := search_for(options, tokenizer, guide):
        told = 0
        for _ in follow(llm, state, logits, [search], options.lora_scale, cancelled):
            settled = search.settled()
            yield from settled[told:]
            told = len(settled)
        return
    while True:
        chosen = choose(logits[0], ids)
        if chosen == tokenizer.eos_token_id:
            return
        ids.append(chosen)
        yield chosen
        if len(ids) >= options.max_new_tokens or cancelled():
            return
        state, logits = llm.step(state, torch.tensor([chosen]), options.lora_scale)


@torch.inference_mode()
def generate_batch(
    llm: Llm,
    prompts: list[Tensor],
    choices: Sequence[Choice],
    lora_scale: float = 1.0,
    prefixes: Sequence[State | None] = (),
    after_prompts: Callable[[State], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """Token ids of several answers at once, each what `generate` gives alone.

    `Int8Llama` keeps that to the bit; in `PeftLlm` sums of a batch are rounded in another order, so that a tie may
    fall the other way. Answers that end leave the batch, so the rest goes on faster.

    Args:
        choices: how each answer chooses its tokens, and how many it may have.
        prefixes: the state of what stands before each prompt; without any nothing does.
        after_prompts: given the state when the prompts are read.
        cancelled: asked before each step.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    state, logits = llm.prefill(prompts, lora_scale, prefixes)
    after_prompts(state)
    while True:
        chosen = [choices[row](logits[at], answers[row]) for at, row in enumerate(rows)]
        going = []
        for at, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            if token == choices[row].end:
                continue
            answers[row].append(token)
            if len(answers[row]) < choices[row].most:
                going.append(at)
        if not going or cancelled():
            return answers
        if len(going) < len(rows):
            going = [going[index] for index in gaps_filled(going)]
            state = llm.pick(state, going)
        rows, tokens = [rows[at] for at in going], [chosen[at] for at in going]
        state, logits = llm.step(state, torch.tensor(tokens), lora_scale)


def search_for(options: GenerationOptions, tokenizer: Tokenizer, guide: Guide | None) -> Search | None:
    """The search for an answer, if it has readings and the likeliest one is wanted, whatever it is."""
    plain = options.temperature <= 0.0 and options.pattern is None and options.repetition_penalty == 1.0
    return Search(guide, tokenizer.eos_token_id, options.max_new_tokens) if guide is not None and plain else None


@torch.inference_mode()
def search_batch(
    llm: Llm,
    prompts: list[Tensor],
    searches: Sequence[Search],
    lora_scale: float = 1.0,
    prefixes: Sequence[State | None] = (),
    after_prompts: Callable[[State], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """As `generate_batch`, of answers that are searched for (`salmonn_core.beams`)."""
    state, logits = llm.prefill(prompts, lora_scale, prefixes)
    after_prompts(state)
    for _ in follow(llm, state, logits, searches, lora_scale, cancelled):
        pass
    return [search.settled() for search in searches]


def pieces(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[str]:
    """Text as it becomes certain: a character whose bytes are not all there yet is held back."""
    seen: list[int] = []
    shown = ""
    for token in ids:
        seen.append(token)
        text = tokenizer.decode(seen)
        if not text.endswith("\ufffd") and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
