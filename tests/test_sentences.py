"""Deltas become sentences: cut where a speaker would pause, never inside an abbreviation or a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.sentences import LONGEST, UNBROKEN, Sentences


def cut(text: str, language: str = "en") -> list[str]:
    sentences = Sentences(language)
    return sentences.feed(text) + sentences.flush()


@pytest.mark.parametrize(
    "pieces",
    [
        ["It is ten past four.", "Shall I wake you?", "Good!", "Bye."],
        ["Dr. Smith lives at 5 St. James St. near Mr. Brown.", "He is in."],
        ["It is 3.5 degrees, e.g. cold, in the U.S. today.", "Wear a coat."],
        ["It rings at 7 a.m. tomorrow.", "The next one rings at 8 p.m.", "Nothing else is set."],
        ["I have milk, eggs etc. in the list.", "Anything else, butter etc.?", "No."],
        ["The timer is set for 3.", "I will call you."],
        ["J. S. Bach wrote it.", "He said “Enough.”", "They (all of them!) left."],
        ["Really?!", "Yes…", "Well then."],
        ["You need:", "- two eggs", "- milk", "1. Beat the eggs.", "2. Add milk."],
        ["# Supper", "Boil the rice."],
        ["Look at this:", "```python\nx = 1. + 2\nprint(x). Done\n```", "That is all."],
        ["火曜日です。", "明日は晴れです！"],
    ],
)
def test_a_text_is_cut_where_its_sentences_end(pieces: list[str]) -> None:
    joint = "\n" if any(mark in "".join(pieces) for mark in ("#", "- ", "```")) else " "
    assert cut(joint.join(pieces)) == pieces


def test_a_sentence_leaves_as_soon_as_it_is_surely_over() -> None:
    sentences = Sentences()
    assert sentences.feed("It is ten") == []
    assert sentences.feed(" past four.") == []  # "four.5" is still possible
    assert sentences.feed(" ") == ["It is ten past four."]
    assert sentences.feed("Ask Dr. ") == []
    assert sentences.flush() == ["Ask Dr."]
    assert sentences.flush() == []


def test_a_long_first_sentence_begins_at_its_first_late_comma_and_later_ones_are_whole() -> None:
    first = "Well, the weather in the north is going to be rather cold,"
    second = "with rain from the west, so take an umbrella and a coat with you, please."
    assert cut(f"{first} {second} {second}") == [first, second, second]


def test_a_run_without_end_is_cut_at_a_space_and_at_a_comma_where_one_is_near() -> None:
    assert all(len(piece) <= LONGEST for piece in cut("word " * 300))
    long = "word " * 30 + "yes, " + "word " * 30
    sentences = Sentences()
    assert sentences.feed("First. ") == ["First."]
    assert sentences.feed(long)[0].endswith("yes,")
    assert max(map(len, cut("x" * 1000))) == UNBROKEN


def test_other_languages_write_ordinals_with_a_full_stop() -> None:
    assert cut("Am 3. Mai ist es so weit. Gut.", "de-DE") == ["Am 3. Mai ist es so weit.", "Gut."]


def test_a_stall_speaks_what_is_there_but_holds_an_unfinished_word() -> None:
    sentences = Sentences()
    sentences.feed("The answer is tre")
    assert sentences.stall() == ["The answer is"]
    assert sentences.stall() == []
    sentences.feed("mendous. ")
    sentences.feed("Done.")
    assert sentences.stall() == ["Done."]


def test_a_hundred_thousand_characters_are_cut_without_trouble() -> None:
    assert len(cut("A sentence of some words. " * 4000)) == 4000
    assert cut("`" * 100_000 + "#\n" * 1000)


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [". ", "? ", ".", " ", "\n", "\n\n", "- ", "# ", "```", "1. ", ", ", "Dr. ", "e.g. ", "U.S. "]
        ),
        st.sampled_from(["a", "B", "p.m. ", "3.5", "。", "」", "etc. ", "word " * 30, "x" * 150, " " * 150, "…"]),
    ),
    max_size=40,
).map("".join)


@given(TEXTS, st.lists(st.integers(1, 60)), st.sampled_from(["en", "de"]))
def test_nothing_is_lost_and_the_deltas_do_not_matter(text: str, steps: list[int], language: str) -> None:
    sentences, pieces, rest = Sentences(language), [], text
    for step in steps:
        pieces += sentences.feed(rest[:step])
        rest = rest[step:]
    pieces += sentences.feed(rest) + sentences.flush()
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert pieces == cut(text, language)
    assert all(piece == piece.strip() != "" for piece in pieces)
