"""Which of some phrases were said: by letters, by the audio tokens' own reading, and by both."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from salmonn_core.likeness import as_said, best_places, letters, padded
from salmonn_core.spotting import FLOOR, TOKEN, Read, spot


def place(phrase: str, text: str, taken: str = "") -> tuple[float, str]:
    """How well a phrase fits into a text, and where, in the text's own letters."""
    heard = letters(text)
    used = np.array([letter in taken for letter in _as_text(heard)], bool)
    found = best_places(*padded([letters(phrase)]), heard, used)
    return float(found.score[0]), _as_text(heard[found.start[0] : found.end[0]])


def _as_text(numbers: np.ndarray) -> str:
    return "".join(chr(number + ord("a")) for number in numbers)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Phil", "fill"), ("quick", "kwik"), ("coffee", "kofi"), ("city", "sitty"), ("box", "bocks"), ("Café", "kafe")],
)
def test_what_sounds_the_same_has_the_same_letters(one, other):
    assert _as_text(letters(one))[:-1] == _as_text(letters(other))[:-1]


def test_a_misheard_phrase_is_found_where_it_was_said():
    score, where = place("iced mocha", "can i have an ice moka please")
    assert where == "isemoka"
    assert score > 0.7 * len(letters("iced mocha"))


def test_words_that_ran_together_are_found():
    assert place("twenty ounce", "brew me a twentyouns")[1] == "twentiouns"


def test_another_phrase_fits_far_worse():
    assert place("orange juice", "can i have an ice moka please")[0] < 0.35 * len(letters("orange juice"))


def test_letters_that_belong_to_something_else_do_not_count():
    assert place("tea", "a green tea")[1] == "tea"
    assert "t" not in place("tea", "a green tea", taken="t")[1]


def test_all_phrases_are_placed_as_each_alone():
    phrases = [letters(phrase) for phrase in ("a little milk", "tea", "")]
    heard = letters("with a litl milk in it")
    together = best_places(*padded(phrases), heard, np.zeros(len(heard), bool))
    for row, phrase in enumerate(phrases):
        alone = best_places(*padded([phrase]), heard, np.zeros(len(heard), bool))
        assert (together.score[row], together.end[row]) == (alone.score[0], alone.end[0])


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("Large", "large"),
        ("turn_on", "turn on"),
        ("2 eggs", "two eggs"),
        ("42", "forty two"),
        ("don't", "don't"),
        ("90%", "ninety percent"),
        ("salt & pepper", "salt and pepper"),
    ],
)
def test_phrases_are_looked_for_as_they_are_said(phrase, said):
    assert as_said(phrase) == said


def random_reading(length: int, classes: int) -> np.ndarray:
    values = np.random.default_rng(length).normal(size=(length, classes)) * 3
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def by_every_path(log_probs: np.ndarray, phrase: list[int]) -> float:
    """The best gain of a phrase anywhere, by trying every part of the clip and every CTC path through it."""
    best = log_probs.argmax(axis=1)
    new = [b != 0 and (t == 0 or best[t - 1] != b) for t, b in enumerate(best)]
    behind = np.maximum(log_probs - log_probs.max(axis=1, keepdims=True), FLOOR)
    found = -np.inf
    for start, end in itertools.combinations(range(len(log_probs) + 1), 2):
        for path in itertools.product(sorted({0, *phrase}), repeat=end - start):
            read = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
            if read == phrase and path[0] and path[-1]:
                gain = sum(behind[start + i, c] + TOKEN * (c > 0 and new[start + i]) for i, c in enumerate(path))
                found = max(found, gain)
    return found


@pytest.mark.parametrize("phrase", [[1], [1, 2], [2, 2], [3, 1, 3]])
def test_the_place_of_a_phrase_is_the_best_of_all_paths(phrase):
    log_probs = random_reading(6, 4)
    places = Read(log_probs, [[3], phrase]).places
    assert places.score[1] == pytest.approx(by_every_path(log_probs, phrase))


def reading(said: str) -> np.ndarray:
    """A clip that says these classes nearly surely: letters for classes from 1 on, `-` a blank."""
    rows = np.full((len(said), 27), 0.001)
    rows[range(len(said)), ["-abcdefghijklmnopqrstuvwxyz".index(letter) for letter in said]] = 0.974
    return np.log(rows)


def classes(phrase: str) -> list[int]:
    return [ord(letter) - ord("a") + 1 for letter in phrase]


def spotted(groups: dict[str, list[str]], text: str, clip: str = "") -> dict[str, str | None]:
    said = [phrase for allowed in groups.values() for phrase in allowed]
    read = Read(reading(clip), [classes(phrase) for phrase in said]) if clip else None
    found = spot(groups, read, [text])
    return {name: index if index is None else groups[name][index] for name, index in found.items()}


MILK = ["milk", "some milk", "a lot of milk", "soy milk"]
SUGAR = ["sugar", "brown sugar", "a lot of brown sugar"]


def test_the_phrase_that_explains_most_of_what_was_said_is_taken():
    assert spotted({"milk": MILK}, "a coffee with a lot of milk") == {"milk": "a lot of milk"}
    assert spotted({"milk": MILK}, "a coffee with milk") == {"milk": "milk"}


def test_nothing_is_found_where_nothing_was_said():
    assert spotted({"milk": MILK, "sugar": SUGAR}, "turn on the light in the hall") == {"milk": None, "sugar": None}
    assert spotted({"milk": MILK}, "") == {"milk": None}


def test_what_belongs_to_one_field_is_no_value_of_another():
    groups = {"first": ["brown sugar"], "second": ["sugar", "honey"]}
    assert spotted(groups, "with brown sugar") == {"first": "brown sugar", "second": None}


def test_a_field_without_values_stays_empty():
    assert spotted({"milk": [], "sugar": ["", "sugar"]}, "sugar please") == {"milk": None, "sugar": "sugar"}


def test_what_was_written_wrongly_is_found_in_what_was_read():
    groups = {"room": ["kab", "dol"]}
    assert spotted(groups, "x", clip="--t-o-k-a-b-w") == {"room": "kab"}


def test_what_the_reader_never_learned_is_found_by_its_letters():
    groups = {"drink": ["espresso", "cappuccino"]}
    found = spot(groups, Read(reading("--t-o-q-w"), [[], []]), ["i would like an espreso please"])
    assert found == {"drink": 0}
