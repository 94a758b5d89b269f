"""The prompt around the audio, and the instructions that each task was trained with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salmonn_core.config import PromptConfig

if TYPE_CHECKING:
    from salmonn_core.namer import Names

SPEECH_HERE = "<SpeechHere>"
WORDS_HERE = "<WordsHere>"  # in a pattern: any run of the words that are spoken
LONGEST_RUN = 8
# Of a transcript: nobody says more tokens, and the weight of what is read that was best on sentences for choosing it.
TOKENS, TOKENS_PER_S = 8, 6
READING_WEIGHT = 0.76

# Several wordings of each official task name, so that no single one has to be met exactly.
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "asr": (
        "Transcribe the speech.",
        "Write down what is said.",
        "What are the words spoken?",
        "Give me a transcript of this recording.",
    ),
    "audiocaption": (
        "Describe the sound.",
        "What do you hear?",
        "Say in one sentence what can be heard.",
        "Give a short caption for this audio.",
    ),
    "label": (
        "Name the sound.",
        "Which sound is this? Answer in a few words.",
        "Label this audio.",
    ),
    "music_description": (
        "Describe the music.",
        "What kind of music is this?",
        "Tell me about the instruments and the tempo.",
    ),
    "kind": (
        "Is this speech, a sound or music? Answer with one word.",
        "Speech, sound or music?",
    ),
    "QA": (
        "Answer the spoken question.",
        "Listen to the question and answer it.",
        "Reply to what was asked.",
    ),
    "story": (
        "Tell a short story about what you hear.",
        "Write a little story inspired by this recording.",
    ),
    "keywords": (
        "Give the keywords of what is said.",
        "Which words matter most here?",
        "List the main words of this speech.",
    ),
    "gender_recognition": (
        "Is the speaker a man or a woman?",
        "Tell whether the voice is male or female.",
        "Which gender does the voice suggest?",
    ),
    "phone_recognition": (
        "Write the phonemes that are spoken.",
        "Which phones do you hear, in order?",
        "Transcribe the speech as phonemes.",
    ),
    "emotion_recognition": (
        "How does the speaker feel?",
        "Name the emotion in the voice.",
        "Which mood does the voice show?",
    ),
    "speaker_verification": (
        "Is it one speaker or two?",
        "Do both recordings have the same speaker? Answer yes or no.",
        "Is the same person speaking throughout?",
    ),
    "en2zh": ("Translate the speech into Chinese.", "Say this in Chinese.", "What is this in Chinese?"),
    "en2de": ("Translate the speech into German.", "Say this in German.", "What is this in German?"),
    "en2ja": ("Translate the speech into Japanese.", "Say this in Japanese.", "What is this in Japanese?"),
    "slots": (
        "Fill in the fields from the speech as JSON.",
        "Give the details that were said as a JSON record.",
    ),
    "co_reasoning": (
        "Answer the spoken question from what else can be heard.",
        "Use the background sound to answer what is asked.",
        "Listen to the question and to the sounds behind it, then answer.",
    ),
}

# Other names that manifests give to the same tasks.
ALIASES = {
    "audiocaption_v2": "audiocaption",
    "gender": "gender_recognition",
    "phone": "phone_recognition",
    "emotion": "emotion_recognition",
    "translation_ec": "en2zh",
    "translation": "en2zh",
    "audio_story_telling": "story",
    "slot_filling": "slots",
    "keyword": "keywords",
    "speech_audio_coreasoning": "co_reasoning",
}


def slot_instruction(fields: dict[str, str]) -> str:
    """The slot-filling instruction for a schema of field names and what they mean.

    Slot order is the schema's; absent values are null.
    """
    listed = "; ".join(f"{name} ({meaning})" if meaning else name for name, meaning in fields.items())
    return f"Fill in the fields from the speech as JSON, null if not said. Fields: {listed}."


def transcript_limit(seconds: float) -> int:
    """How many tokens the transcript of a clip may have: a model that runs on is stopped."""
    return round(TOKENS + TOKENS_PER_S * seconds)


def with_transcript(instruction: str, words: str) -> str:
    """An instruction about speech whose words are known as text too, in the form that training used."""
    return f'The words spoken are "{words}". {instruction}'


def quotable(words: str) -> str:
    """A regular expression of what can be quoted from a transcript: any few words of it in a row."""
    said = re.sub(r'["\\]', "", words).split()
    every = {" ".join(said[i:j]) for i in range(len(said)) for j in range(i + 1, min(len(said), i + LONGEST_RUN) + 1)}
    # Without any words nothing can be quoted: a group that matches nothing, not even the empty text.
    return f"({'|'.join(map(re.escape, sorted(every)))})" if every else "((?!))"


def said_here(name: str) -> str:
    """In a pattern: which of the phrases of that name was said (`GenerationOptions.spot`), as JSON."""
    return f"<Said:{name}>"


def with_names(instruction: str, names: Names) -> str:
    """An instruction about sounds that were named already, in the form that training used, or about a voice."""
    if names.voice:
        return f"You hear a {names.voice}. {instruction}"
    told = f"The sounds may be {_quoted(names.likely)}. "
    if len(names.in_order) > 1:
        told += f"In order: {_quoted(names.in_order)}. "
    return told + instruction


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@dataclass(frozen=True)
class PromptHalves:
    """Text before and after the audio tokens; they are tokenised separately, as in the reference."""

    before: str
    after: str
    has_audio: bool = True


def build_prompt(
    config: PromptConfig, instruction: str, has_audio: bool = True, history: str = "", before: str = ""
) -> PromptHalves:
    """Place an instruction in the template.

    Args:
        config: the template that the model was trained with.
        instruction: what to do with the audio.
        has_audio: False leaves the speech part out altogether.
        history: earlier turns, already in the template's form.
        before: text that stands before the audio.
    """
    lead = before.strip() + " " if before.strip() else ""
    if not has_audio:
        return PromptHalves(history + config.template.format(lead + instruction.strip()), "", has_audio=False)
    whole = config.template.format(lead + config.speech + instruction.strip())
    before, after = whole.split(SPEECH_HERE)
    return PromptHalves(history + before, after)


def past_turn(config: PromptConfig, instruction: str, answer: str, end: str) -> str:
    """An earlier question and its answer as text, to stand before the next prompt."""
    return config.template.format(instruction.strip()) + answer.strip() + end
