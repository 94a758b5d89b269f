"""Captions across the seam of two windows that overlap."""

import pytest

from assistant.stitching import stitch


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("the quick brown fox jumps", "fox jumps over the dog", "the quick brown fox jumps over the dog"),
        ("and then he said,", "He said that it rains", "and then he said, that it rains"),
        ("we walked to the sta", "to the station at night", "we walked to the station at night"),
        ("one two three four", "ree four five", "one two three four five"),
        ("nothing in common", "here at all", "nothing in common here at all"),
        ("", "only after", "only after"),
        ("only before", "", "only before"),
    ],
)
def test_words_in_the_overlap_are_said_once(before, after, whole):
    assert stitch(before, after, 1.0) == whole


def test_windows_without_overlap_are_kept_whole():
    assert stitch("no, no, no", "no, not yet", 0.0) == "no, no, no no, not yet"


def test_a_word_that_comes_again_far_from_the_seam_stays():
    before = "rain fell on the town for all of the long night and then it stopped"
    after = "rain fell again in the morning"
    assert stitch(before, after, 1.0) == f"{before} {after}"


def test_a_text_in_twenty_pieces_is_put_together_again():
    words = [f"word{n}" for n in range(200)]
    text, at = "", 0
    while at < len(words):
        piece = " ".join(words[max(0, at - 3) : at + 10])
        text = stitch(text, piece, 1.0) if text else piece
        at += 10
    assert text.split() == words
