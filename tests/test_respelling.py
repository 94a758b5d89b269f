"""Words that do not exist become those that were said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from salmonn_core import UserError
from salmonn_core.letters import CLASSES, as_classes
from salmonn_core.lexicon import Lexicon, lexicon_of
from salmonn_core.respelling import Respelling
from salmonn_core.spelling import LetterSpelling

SOUND_ALIKE = {"e": "i", "i": "e", "r": "l", "o": "u", "u": "o", "f": "p"}
SHARES = {"the": -3.0, "time": -6.0, "zone": -9.0, "eastern": -10.0, "easter": -11.0, "easton": -13.0, "at": -5.0}
FEW = Lexicon(SHARES)
ENGLISH = lexicon_of("en")


class Tokenizer:
    eos_token_id = 0

    def get_vocab(self) -> dict[str, int]:
        return {"<end>": 0}

    def __len__(self) -> int:
        return 1


def heard(text: str, sure: float = 0.9) -> torch.Tensor:
    """(frames, classes) of letters: each for one frame and a blank after it, somewhat like those that sound alike."""
    rows = []
    for letter in text:
        row = torch.full((CLASSES,), (1 - sure) / 2 / CLASSES)
        row[as_classes(SOUND_ALIKE.get(letter, letter))] += (1 - sure) / 2
        row[as_classes(letter)] += sure
        blank = torch.full((CLASSES,), 0.001)
        blank[0] = 1.0
        rows += [row, blank]
    frames = torch.stack(rows)
    return (frames / frames.sum(-1, keepdim=True)).log()


def respelled(text: str, letters: torch.Tensor, lexicon: Lexicon = FEW) -> str:
    return "".join(Respelling(letters, LetterSpelling(Tokenizer()), lexicon)(iter(text)))


def test_a_word_that_does_not_exist_becomes_the_one_that_was_heard() -> None:
    assert respelled("the easten time zone", heard("the eastirn time zone")) == "the eastern time zone"


def test_what_follows_keeps_a_short_word_from_leaving_letters_out() -> None:
    # "easter" is spelled in "eastern", and everything after it might still come.
    assert respelled("easterm zone", heard("eastern zone")) == "eastern zone"


def test_the_last_word_is_not_cut_either() -> None:
    assert respelled("the easterm", heard("the eastern")) == "the eastern"


def test_a_name_that_was_heard_letter_by_letter_stays() -> None:
    assert respelled("the wallsburg zone", heard("the wallsburg zone", 0.99)) == "the wallsburg zone"


def test_two_words_that_were_written_as_one_are_two_again() -> None:
    assert respelled("the timezone", heard("the time zone")) == "the time zone"


def test_a_word_that_was_written_as_two_is_one_again() -> None:
    lexicon = Lexicon(SHARES | {"land": -9.0, "lady": -9.0, "landlady": -14.0, "mark": -9.0})
    assert respelled("the land lady at", heard("the landlady at"), lexicon) == "the landlady at"
    assert respelled("at the land lady", heard("at the landlady"), lexicon) == "at the landlady"
    assert respelled("the land lady at", heard("the land lady at", 0.999), lexicon) == "the land lady at"
    assert respelled("the land mark at", heard("the landmark at"), lexicon) == "the land mark at"


def test_known_words_are_left_alone_whatever_the_letters_say() -> None:
    assert respelled("at the time", heard("eastern zone")) == "at the time"


def test_numbers_punctuation_capitals_and_plural_forms_stay() -> None:
    text = "At 7:30, the Easten zone's time... of 3 easten7 x"
    assert respelled(text, heard("at the eastern time zone")) == text


def test_words_come_as_soon_as_they_are_whole() -> None:
    told: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in ("the ", "eas", "ten ti", "me zo", "ne"):
            told.append(piece)
            yield piece

    came = [
        (word, len(told))
        for word in Respelling(heard("the eastern time zone"), LetterSpelling(Tokenizer()), FEW)(pieces())
    ]
    # A word is whole when the next begins, and comes when that is whole, in case the two are one.
    assert came == [("the ", 3), ("eastern ", 4), ("time ", 5), ("zone", 5)]


def test_the_transcript_as_it_was_is_kept_for_whoever_looks_for_sounds() -> None:
    kept: list[str] = []
    respelling = Respelling(heard("the eastern zone"), LetterSpelling(Tokenizer()), FEW, kept.append)
    assert "".join(respelling(["the eas", "ten zone"])) == "the eastern zone"
    assert kept == ["the easten zone"]


def test_a_space_before_the_first_word_stays() -> None:
    assert respelled(" the easten", heard("the eastern")) == " the eastern"


def test_a_transcript_of_nothing_is_nothing() -> None:
    assert respelled("", heard("the")) == ""
    assert respelled("easten", heard("the")[:1]) in {"easten", "the", "eastern", "easton", "easter"}


def test_a_name_that_the_user_expects_is_written_as_the_user_writes_it() -> None:
    names = Lexicon(SHARES, ["Wallsburg", "Dena Eastin"])
    assert respelled("the walsborg time", heard("the wollsburg time"), names) == "the Wallsburg time"
    assert respelled("the wallsburg", heard("the wallsburg"), names) == "the Wallsburg"
    # Also where another word that there is was written: its letters decide.
    assert respelled("the eastern time", heard("the eastin time"), names) == "the Eastin time"
    assert respelled("the eastern time", heard("the eastern time"), names) == "the eastern time"


def test_names_with_digits_and_accents_may_be_expected_and_are_found_by_their_letters() -> None:
    names = Lexicon(SHARES, ["Zo\u00eb", "R2D2", "42"])
    assert respelled("the zoa time", heard("the zo time"), names) == "the Zo\u00eb time"
    assert respelled("the rdz time", heard("the rd time"), names) == "the R2D2 time"


@pytest.mark.parametrize("word", ["eastern", "polynesia", "deacon", "i'm", "don't", "dog's", "teaspoonful", "okay"])
def test_english_knows_what_people_say(word: str) -> None:
    assert word in ENGLISH


@pytest.mark.parametrize("word", ["easten", "polinisa", "deeken", "proctitioners", "narative"])
def test_english_does_not_know_what_nobody_writes(word: str) -> None:
    assert word not in ENGLISH


def test_a_language_without_a_list_is_a_clear_error() -> None:
    with pytest.raises(UserError, match=r"`lexicon: tlh`; wordfreq knows ar, .*, en, "):
        lexicon_of("tlh")


def test_the_words_that_look_most_like_one_are_found() -> None:
    assert "eastern" in ENGLISH.instead_of("easten")
    assert "practitioners" in ENGLISH.instead_of("proctitioners")
    assert "mike stein" in ENGLISH.instead_of("mikestein")
    assert not ENGLISH.instead_of("eastern")


def test_words_that_make_no_word_together_are_looked_at_one_by_one() -> None:
    lexicon = Lexicon(SHARES | {"olly": -15.0, "newburg": -15.0}, taught=["Newberg"])
    assert respelled("olly newburg", heard("olly newberg"), lexicon) == "olly Newberg"


def test_a_name_that_the_user_expects_is_found_in_what_was_written_as_one_word() -> None:
    lexicon = Lexicon(SHARES, taught=["Newberg"])
    assert respelled("thenewburg", heard("the newberg"), lexicon) == "the Newberg"
