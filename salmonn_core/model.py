"""SALMONN: two encoders, a bridge and an LLM with LoRA, as one object that hears and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from salmonn_core.audio import MIN_SAMPLES, fit_length, groups, read_audio
from salmonn_core.beats import Beats
from salmonn_core.bridge import Bridge, Heard
from salmonn_core.config import SAMPLE_RATE, SalmonnConfig
from salmonn_core.decode import GenerationOptions, generate, only_match, pieces
from salmonn_core.errors import UserError
from salmonn_core.hearing import Hearing
from salmonn_core.letters import Letters, likeliest
from salmonn_core.lexicon import lexicon_of
from salmonn_core.likeness import as_said
from salmonn_core.llm import Llm, State
from salmonn_core.namer import Names, named
from salmonn_core.opening import opening
from salmonn_core.prompts import (
    INSTRUCTIONS,
    READING_WEIGHT,
    WORDS_HERE,
    build_prompt,
    past_turn,
    quotable,
    said_here,
    transcript_limit,
    with_names,
    with_transcript,
)
from salmonn_core.reading import LETTERS_SHARE, Guide, LetterReading, Reader, Reading, WordReading
from salmonn_core.respelling import Respelling
from salmonn_core.spelling import LetterSpelling, WordSpelling
from salmonn_core.spotting import Read, spot
from salmonn_core.whisper import encode_whisper, log_mel

if TYPE_CHECKING:
    from salmonn_core.checkpoint import OfficialFiles
    from salmonn_core.loading import Precision

BATCH = 32
SORTED_BATCHES = 8  # so many batches are read ahead and sorted by length
HEARD_TOGETHER = 20 * SAMPLE_RATE  # samples that are encoded together
KEPT_PREFIXES = 8
CAPTION_TOKENS = 40
PromptKey = tuple[tuple[int, ...], float]  # token ids before the audio, LoRA scale


@dataclass(frozen=True)
class AudioTokens:
    """What the model heard in one window: encode once, ask as often as you like.

    Attributes:
        tokens: (audio tokens, LLM width).
        spoken: the same without what the namer added: what the model's reader reads.
        seconds: length of the clip.
        read: the LLM's state after the text before the audio and the audio itself, by that text and the LoRA
            scale: a second question about the window reads its own words only.
        words: the transcript by LoRA scale, once something asked for it.
        as_read: the last one at each scale as it was before words that do not exist were replaced.
        captions: the same of what sounds, at full LoRA scale: one at most.
        votes: what the namer hears in each window, (windows, labels); see `Salmonn.names`.
        spelled: reads the letters, where the model does.
    """

    tokens: Tensor
    spoken: Tensor
    votes: Tensor
    seconds: float
    spelled: Callable[[], Tensor] | None = None
    read: dict[PromptKey, State] = field(default_factory=dict, repr=False, compare=False)
    words: dict[float, str] = field(default_factory=dict, repr=False, compare=False)
    as_read: dict[float, str] = field(default_factory=dict, repr=False, compare=False)
    captions: list[str] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def letters(self) -> Tensor | None:
        """Log-probabilities of letters, (frames, classes), read once something wants the words as they were said."""
        return self.spelled() if self.spelled else None


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        audio: what was heard; None asks in text alone.
        instruction: what to do with it.
        options: greedy and at full LoRA scale unless said otherwise.
        history: earlier (instruction, answer) turns, as text.
        before: text that stands before the audio.
    """

    audio: AudioTokens | None
    instruction: str
    options: GenerationOptions = field(default_factory=GenerationOptions)
    history: Sequence[tuple[str, str]] = ()
    before: str = ""


@dataclass(frozen=True)
class Open:
    """A question of which something is left to generate."""

    ready: Prepared
    options: GenerationOptions
    guide: Guide | None
    begun: str = ""  # what the answer begins with
    respelled: Callable[[Iterable[str]], Iterator[str]] = iter


@dataclass(frozen=True)
class Prepared:
    """A prompt as `salmonn_core.decode.generate` takes it: what is read already, and the rest embedded."""

    prefix: State | None
    rest: Tensor
    remember: Callable[[State], None] = lambda _: None  # given the state of this sequence once it is read


class Salmonn:
    """A loaded model. `Salmonn.from_pretrained("salmonn-tiny")` makes one; see `salmonn_core.loading`."""

    def __init__(
        self,
        config: SalmonnConfig,
        whisper: Any,
        beats: Beats,
        bridge: Bridge,
        llm: Llm,
        tokenizer: Any,
        reader: Reader | None = None,
        letters: Letters | None = None,
    ) -> None:
        self.config = config
        self.whisper, self.beats, self.bridge = whisper, beats, bridge
        self.llm, self.tokenizer, self.reader, self.letters = llm, tokenizer, reader, letters
        self._expected: tuple[str, ...] = ()
        self._prefix = lru_cache(KEPT_PREFIXES)(self._read_prefix)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "salmonn-tiny", device: str = "cpu", precision: Precision = "auto"
    ) -> Salmonn:
        """Load a bundled model by name, or a folder that training or `assistant weights convert` wrote.

        Args:
            precision: `auto` (int8 on a CPU, bf16 elsewhere), `fp32`, `bf16`, `int8`, or on CUDA `int4`.

        Raises:
            UserError: unknown name, or weights that are missing, damaged or do not fit.
        """
        from salmonn_core.loading import load

        return load(name, device, precision)

    @classmethod
    def from_official(
        cls, files: OfficialFiles, device: str = "cpu", precision: Precision = "auto", qformer_heads: int | None = None
    ) -> Salmonn:
        """Load the published model from its own files (see `salmonn_core.checkpoint`).

        Raises:
            UserError: a file that is missing, damaged or does not fit, or a wrong base model.
        """
        from salmonn_core.loading import load_official

        return load_official(files, device, precision, qformer_heads)

    @property
    def device(self) -> torch.device:
        return self.bridge.projection.weight.device

    def encode(self, wave: np.ndarray) -> AudioTokens:
        """Audio tokens of a clip.

        Args:
            wave: (samples,) float32 in [-1, 1) at 16 kHz; shorter than 1 s is padded, longer than 30 s cut.
        """
        return self._encode([wave])[0]

    def encode_many(self, waves: Sequence[np.ndarray]) -> list[AudioTokens]:
        """As `encode` for clips of any lengths; to the bit on a CPU, several at a time elsewhere."""
        if self.device.type == "cpu":
            # Together gains a twentieth there, and with AMX a clip's sums are rounded by what stands beside them.
            return [self.encode(wave) for wave in waves]
        heard: list[AudioTokens] = []
        for group in groups([max(len(wave), MIN_SAMPLES) for wave in waves], HEARD_TOGETHER):
            heard += self._encode([waves[index] for index in group])
        return heard

    @torch.inference_mode()
    def _encode(self, waves: list[np.ndarray]) -> list[AudioTokens]:
        """Clips share the encoders' matrices, unpadded; attention, windows and convolutions are each one's own."""
        multiple = 1 if self.config.pad_to_30s else self.config.qformer.window_frames
        speech, clips = self._heard([fit_length(wave, multiple) for wave in waves])
        spelled = [None if self.letters is None else partial(_spelled, self.letters, states) for states in speech]
        return [
            AudioTokens(clip.tokens, clip.spoken, clip.votes, len(wave) / SAMPLE_RATE, letters)
            for clip, wave, letters in zip(clips, waves, spelled, strict=True)
        ]

    def _heard(self, waves: list[np.ndarray]) -> tuple[list[Tensor], list[Heard]]:
        """Whisper's states of each clip, and what the bridge makes of it."""
        if len(waves) == 1 and self._records():
            states, heard = self.hearing.hear(waves[0])
            return [states], [heard]
        padded, bins = self.config.pad_to_30s, self.whisper.config.num_mel_bins
        mels = [log_mel(wave, bins, padded, str(self.device)).to(self.device) for wave in waves]
        speech = encode_whisper(self.whisper, mels)
        audio = self.beats.forward_many([torch.from_numpy(wave).to(self.device) for wave in waves])
        return speech, self.bridge.hear(speech, audio)

    def _records(self) -> bool:
        """Whether a single clip is worth recording: its shapes come again, and autocast does not change its passes."""
        return self.config.pad_to_30s and self.device.type == "cuda" and not torch.is_autocast_enabled("cuda")

    @cached_property
    def hearing(self) -> Hearing:
        """Encoders and bridge of a single clip under 30 s of padding, recorded on a GPU."""
        return Hearing(self.whisper, self.beats, self.bridge)

    def join(self, parts: Sequence[AudioTokens]) -> AudioTokens:
        """Several clips one after the other, as one; together they should be no longer than 30 s."""
        tokens, spoken = torch.cat([part.tokens for part in parts]), torch.cat([part.spoken for part in parts])
        votes = torch.cat([part.votes for part in parts])
        letters = partial(_spelled_in_a_row, parts) if all(part.spelled for part in parts) else None
        return AudioTokens(tokens, spoken, votes, sum(part.seconds for part in parts), letters)

    def names(self, audio: AudioTokens, question: str = "") -> Names:
        """What the namer hears in a clip, for a question about it; nothing in plain speech and without a namer."""
        return named(audio.votes, self.config.labels, question)

    def ids(self, text: str) -> Tensor:
        """(n,) token ids of a part of the prompt; the halves are tokenised separately, as in the reference."""
        return torch.tensor(self.tokenizer(text, add_special_tokens=False).input_ids, dtype=torch.long)

    def stream(
        self,
        audio: AudioTokens | None,
        instruction: str,
        options: GenerationOptions | None = None,
        history: Sequence[tuple[str, str]] = (),
        cancelled: Callable[[], bool] = lambda: False,
        before: str = "",
    ) -> Iterator[str]:
        """Yield the answer as text pieces while it is generated.

        Args:
            audio, instruction, options, history, before: as in `Asked`.
            cancelled: asked before each token.
        """
        asked = Asked(audio, instruction, options or GenerationOptions(), history, before)
        opened = self.open(asked, cancelled)
        if isinstance(opened, str):
            yield opened
            return
        if opened.begun:
            yield opened.begun
        ready, options = opened.ready, opened.options
        ids = generate(
            self.llm, self.tokenizer, ready.rest, options, cancelled, ready.prefix, ready.remember, opened.guide
        )
        yield from opened.respelled(pieces(self.tokenizer, ids))

    def stream_many(self, asked: Sequence[Asked]) -> list[list[str]]:
        """Several questions at once: of each the pieces that `stream` would yield (`salmonn_core.together`)."""
        from salmonn_core.together import stream_many

        return stream_many(self, asked)

    def open(self, asked: Asked, cancelled: Callable[[], bool] = lambda: False) -> Open | str:
        """What is to be generated, or the answer itself if its pattern leaves nothing open.

        Words and names that the options want before the question are written down first.
        """
        audio, options = asked.audio, asked.options
        instruction = self._asked(asked.instruction, audio, options, cancelled)
        options = self._quoting(audio, options, cancelled)
        if (answer := only_match(options.pattern)) is not None:
            return answer
        begun = self._begun(audio, options, cancelled)
        ready = self.prompt(instruction, audio, options.lora_scale, asked.history, asked.before, begun)
        return Open(ready, options, self._guide(audio, options), begun, self._respelled(audio, options))

    def transcript(
        self, audio: AudioTokens, lora_scale: float = 1.0, cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        """The words of a clip, written with the settings that suit transcripts; kept, so a second call is free."""
        if lora_scale in audio.words:
            return audio.words[lora_scale]
        return self._written(for_words(audio, lora_scale), partial(audio.words.__setitem__, lora_scale), cancelled)

    def caption(self, audio: AudioTokens, cancelled: Callable[[], bool] = lambda: False) -> str:
        """A sentence of what sounds in a clip, at full LoRA scale; kept, so a second call is free."""
        if audio.captions:
            return audio.captions[0]
        return self._written(for_caption(audio), audio.captions.append, cancelled)

    def _written(self, asked: Asked, keep: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
        """The answer to a question that others need first; kept only if it is whole."""
        written = "".join(self.stream(asked.audio, asked.instruction, asked.options, cancelled=cancelled)).strip()
        if not cancelled():
            keep(written)
        return written

    def spot(
        self,
        audio: AudioTokens,
        phrases: Mapping[str, Sequence[str]],
        lora_scale: float = 1.0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[str, str | None]:
        """Which of some phrases were said, at most one of each name: `{"size": ["small", "large"]}`.

        They are listened for in what the audio tokens read, and looked for in the transcript; a model that cannot be
        read has the transcript alone (`salmonn_core.spotting`).
        """
        said = {name: [as_said(phrase) for phrase in allowed] for name, allowed in phrases.items()}
        words, read = self.transcript(audio, lora_scale, cancelled), None
        # What is near an allowed value as it sounds may have become another word.
        texts = list(dict.fromkeys((words, audio.as_read.get(lora_scale, words))))
        if self.reader is not None:
            with torch.inference_mode():
                log_probs = self.reader(audio.spoken)
            texts.append(self.tokenizer.decode(self.reader.likeliest(log_probs)))
            ids = [self.ids(f" {phrase}").tolist() for allowed in said.values() for phrase in allowed]
            read = Read(log_probs.cpu().numpy(), [self._words.phrase(each) for each in ids])
        if audio.letters is not None:
            texts.append(likeliest(audio.letters))
        found = spot(said, read, texts)
        return {name: index if index is None else phrases[name][index] for name, index in found.items()}

    @cached_property
    def _words(self) -> WordSpelling:
        assert self.reader is not None
        return WordSpelling(self.reader.tokens, self.tokenizer)

    def expect(self, words: Sequence[str]) -> None:
        """Look for names and other words, as they are to be written, in place of words that look like them.

        For transcripts, of a model that reads letters. Each call replaces the words of the one before.
        """
        self._expected = tuple(words)

    @cached_property
    def _letters(self) -> LetterSpelling:
        return LetterSpelling(self.tokenizer)

    def _asked(
        self,
        instruction: str,
        audio: AudioTokens | None,
        options: GenerationOptions,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """The instruction, after the words that are spoken and the sounds that are named, if the options want them."""
        if audio is None:
            return instruction
        if options.names_first and (names := self.names(audio, instruction)):
            instruction = with_names(instruction, names)
        if not options.words_first:
            return instruction
        return with_transcript(instruction, self.transcript(audio, options.lora_scale, cancelled))

    def _begun(
        self, audio: AudioTokens | None, options: GenerationOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> str:
        if not options.heard_first or audio is None or not (names := self.names(audio)):
            return ""
        return opening(self.caption(audio, cancelled), names)

    def _quoting(
        self, audio: AudioTokens | None, options: GenerationOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> GenerationOptions:
        """The options with the clip's own words where the pattern quotes them, and what was said of some phrases."""
        pattern = options.pattern
        if pattern and options.spot:
            said = self.spot(audio, options.spot, options.lora_scale, cancelled) if audio else {}
            for name in options.spot:
                pattern = pattern.replace(said_here(name), re.escape(json.dumps(said.get(name))))
        if pattern and (unknown := re.search(said_here(r"(.*?)"), pattern)):
            known = ", ".join(options.spot) or "nothing"
            raise UserError(f"the pattern has {unknown[0]}, but `spot` has no phrases of that name; it has {known}")
        if pattern and WORDS_HERE in pattern:
            words = self.transcript(audio, options.lora_scale, cancelled) if audio else ""
            pattern = pattern.replace(WORDS_HERE, quotable(words))
        return replace(options, pattern=pattern)

    def _guide(self, audio: AudioTokens | None, options: GenerationOptions) -> Guide | None:
        if not options.reading_weight or self.reader is None or audio is None:
            return None
        letters = 0.0 if audio.letters is None else LETTERS_SHARE * options.reading_weight
        with torch.inference_mode():
            words = self.reader(audio.spoken)
        readings: list[Reading] = [WordReading(words, self._words, options.reading_weight - letters)]
        if audio.letters is not None:
            readings.append(LetterReading(audio.letters, self._letters, letters))
        return Guide(readings)

    def _respelled(
        self, audio: AudioTokens | None, options: GenerationOptions
    ) -> Callable[[Iterable[str]], Iterator[str]]:
        language = self.config.letters.lexicon
        if not options.reading_weight or audio is None or audio.letters is None or not language:
            return iter
        keep = partial(audio.as_read.__setitem__, options.lora_scale)
        return Respelling(audio.letters, self._letters, lexicon_of(language, self._expected), keep)

    def ask(self, audio: str | Path | np.ndarray, instruction: str, options: GenerationOptions | None = None) -> str:
        """Answer one question about a sound file or a waveform (samples,) at 16 kHz."""
        return "".join(self.stream(self.encode(_wave(audio)), instruction, options)).strip()

    def ask_many(
        self,
        audios: Sequence[str | Path | np.ndarray],
        instruction: str,
        options: GenerationOptions | None = None,
        batch: int = BATCH,
    ) -> Iterator[tuple[int, str]]:
        """Ask one question about many clips, `batch` at a time: faster than one by one, and the same words.

        Yields:
            (index in `audios`, answer), as the batches are done: clips of similar length go together.

        Raises:
            UserError: a file that cannot be read, when its batch is reached.
        """
        options = options or GenerationOptions()
        for start in range(0, len(audios), SORTED_BATCHES * batch):
            waves = [
                (index, _wave(audios[index])) for index in range(len(audios))[start : start + SORTED_BATCHES * batch]
            ]
            waves.sort(key=lambda item: len(item[1]))
            for first in range(0, len(waves), batch):
                indices, clips = zip(*waves[first : first + batch], strict=True)
                yield from zip(indices, self.answer_many(self.encode_many(clips), instruction, options), strict=True)

    def answer_many(
        self, heard: Sequence[AudioTokens], instruction: str, options: GenerationOptions | None = None
    ) -> list[str]:
        """The answers to one question about several windows, generated together."""
        options = options or GenerationOptions()
        answers = self.stream_many([Asked(clip, instruction, options) for clip in heard])
        return ["".join(answer).strip() for answer in answers]

    @torch.inference_mode()
    def prompt(
        self,
        instruction: str,
        audio: AudioTokens | None,
        lora_scale: float = 1.0,
        history: Sequence[tuple[str, str]] = (),
        before: str = "",
        begun: str = "",
    ) -> Prepared:
        """A question about a window, ready for `salmonn_core.decode.generate`; arguments as in `stream`.

        Args:
            begun: what the answer begins with.
        """
        end = self.tokenizer.eos_token + "\n"
        turns = "".join(past_turn(self.config.prompt, asked, said, end) for asked, said in history)
        halves = build_prompt(self.config.prompt, instruction, audio is not None, turns, before)
        head, after = self.ids(halves.before), torch.cat((self.ids(halves.after), self.ids(begun)))
        if self.config.prompt.bos:
            head = torch.cat((torch.tensor([self.tokenizer.bos_token_id]), head))
        if audio is None:
            return Prepared(None, self.llm.embed(torch.cat((head, after))))
        key = (tuple(head.tolist()), lora_scale)
        if key in audio.read:
            return Prepared(audio.read[key], self.llm.embed(after))
        positions = len(head) + len(audio.tokens)
        rest = torch.cat((audio.tokens.to(self.llm.dtype), self.llm.embed(after)))
        prefix = self._prefix(*key) if len(head) else None
        return Prepared(prefix, rest, lambda state: audio.read.update({key: state.cut(positions)}))

    def _read_prefix(self, ids: tuple[int, ...], lora_scale: float) -> State:
        """The KV state of the fixed text before the audio; `_prefix` keeps the last few."""
        state: State
        state, _ = self.llm.prefill([self.llm.embed(torch.tensor(ids))], lora_scale)
        return state


def for_words(audio: AudioTokens, lora_scale: float) -> Asked:
    """The question for a clip's words, with the settings that suit transcripts."""
    limit = transcript_limit(audio.seconds)
    options = GenerationOptions(limit, lora_scale=lora_scale, reading_weight=READING_WEIGHT)
    return Asked(audio, INSTRUCTIONS["asr"][0], options)


def for_caption(audio: AudioTokens) -> Asked:
    """The question for what sounds in a clip, as the skill that describes it asks."""
    return Asked(audio, INSTRUCTIONS["audiocaption"][0], GenerationOptions(CAPTION_TOKENS, names_first=True))


@torch.inference_mode()
def _spelled(letters: Letters, states: Tensor) -> Tensor:
    """What a clip's states, (frames, width) of Whisper, say in letters."""
    found: Tensor = letters(states)
    return found


def _spelled_in_a_row(parts: Sequence[AudioTokens]) -> Tensor:
    return torch.cat([part.letters for part in parts if part.letters is not None])


def _wave(audio: str | Path | np.ndarray) -> np.ndarray:
    return audio if isinstance(audio, np.ndarray) else read_audio(audio)
