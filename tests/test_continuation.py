"""One answer out of two models' words: whatever the second says again is heard once."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roomtone.core.continuation import REPEATS, Continuation, Words, _bare

ANSWER = (
    "The capital of France is Paris, which lies on the Seine. It has been the seat of kings since Clovis. "
    "Shall I tell you more about it?"
)
WORDS = ANSWER.split()


def joined(said: str, *deltas: str) -> str:
    continuation = Continuation(said)
    return said + "".join([*map(continuation.feed, deltas), continuation.end()])


def plain(text: str) -> list[str]:
    return [bare for word in text.split() if (bare := _bare(word))]


def cut_up(text: str, places: list[int]) -> list[str]:
    cuts = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


# ---------------------------------------------------------------------------------------- whole words


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_words_lose_nothing_and_add_nothing(text: str, places: list[int]) -> None:
    words = Words()
    out = [word for delta in cut_up(text, places) for word in words.feed(delta)] + words.end()
    assert "".join(out) == text.rstrip()


@given(st.integers(0, len(ANSWER)))
def test_what_went_out_ends_at_the_end_of_a_word_wherever_the_stream_breaks(place: int) -> None:
    out = Continuation().feed(ANSWER[:place])
    assert ANSWER.startswith(out)
    assert out.split() == WORDS[: len(out.split())]


def test_a_sentence_is_known_to_end_by_the_space_behind_it() -> None:
    assert Continuation().feed("It is Paris. It") == "It is Paris. "


def test_a_language_without_spaces_is_not_held_back() -> None:
    assert Continuation().feed("今日は晴れです") == "今日は晴れです"


def test_a_megabyte_without_a_space_is_not_held_back() -> None:
    assert len(Continuation().feed("x" * 1_000_000)) == 1_000_000


# ------------------------------------------------------------------------------------------ the joint


@pytest.mark.parametrize("heard", range(1, len(WORDS)))
@pytest.mark.parametrize("sounds", [str, str.upper, str.title, lambda text: text.replace(",", "").replace(".", "")])
def test_wherever_the_second_model_begins_the_answer_is_whole(heard: int, sounds: type[str]) -> None:
    said = " ".join(WORDS[:heard])
    for begins in range(heard + 1):
        assert plain(joined(said, sounds(" ".join(WORDS[begins:])))) == plain(ANSWER), WORDS[begins:]


words = st.lists(st.from_regex(r"[a-zà-öø-ü]{1,9}", fullmatch=True), min_size=2, max_size=60, unique_by=_bare)
signs = st.lists(st.sampled_from(["", "", "", ",", ".", "?", ":", " -", "\n"]), min_size=60, max_size=60)


@given(words, st.data(), signs, signs, st.lists(st.integers(0, 500)), st.sampled_from([str, str.title, str.upper]))
def test_however_a_second_model_overlaps_no_word_is_doubled_and_none_is_lost(
    answer: list[str], data: st.DataObject, first: list[str], second: list[str], places: list[int], case: type[str]
) -> None:
    heard = data.draw(st.integers(1, len(answer)))
    begins = data.draw(st.integers(0, heard))
    said = " ".join(map("".join, zip(answer[:heard], first, strict=False))).rstrip() + data.draw(
        st.sampled_from(["", " "])
    )
    rest = " ".join(map("".join, zip(answer[begins:], second, strict=False)))
    assume(all(map(_bare, answer)))
    assert plain(joined(said, *cut_up(case(rest), places))) == plain(" ".join(answer))


@given(words, st.data(), st.lists(st.integers(0, 500)))
def test_three_models_in_a_row_give_one_answer(answer: list[str], data: st.DataObject, places: list[int]) -> None:
    said, whole = "", " ".join(answer)
    for _ in range(2):
        begins = data.draw(st.integers(0, len(said.split())))
        breaks = data.draw(st.integers(0, len(whole)))
        continuation = Continuation(said)
        offered = " ".join(answer[begins:])[:breaks]
        said += "".join(map(continuation.feed, cut_up(offered, places)))
    begins = data.draw(st.integers(0, len(said.split())))
    assert plain(joined(said, " ".join(answer[begins:]))) == answer


@given(words, st.data(), st.sampled_from(["another", "one more", "none"]), st.lists(st.integers(0, 500)))
def test_a_model_that_begins_again_and_words_one_thing_differently_is_heard_from_where_it_is_new(
    answer: list[str], data: st.DataObject, edit: str, places: list[int]
) -> None:
    assume(all(map(_bare, answer)) and len(answer) > 8)
    heard = data.draw(st.integers(6, len(answer) - 2))
    begins = data.draw(st.integers(0, heard - 6))
    place = data.draw(st.integers(begins + 4, heard - 2))
    instead = {"another": ["0"], "one more": ["0", answer[place]], "none": []}[edit]
    again = answer[begins:place] + instead + answer[place + 1 :]
    assert plain(joined(" ".join(answer[:heard]), *cut_up(" ".join(again), places))) == answer


def test_a_model_that_begins_again_and_says_something_else_is_heard_whole() -> None:
    other = "The capital of France is a town of two million, and the Louvre stands in it. Shall I tell you more?"
    said = "The capital of France is Paris, which lies on"
    assert joined(said, other) == f"{said} {other}"


@pytest.mark.parametrize(
    ("said", "goes_on", "whole"),
    [
        ("It lies on", "the Seine.", "It lies on the Seine."),
        ("It lies on", " the Seine.", "It lies on the Seine."),
        ("It lies on the", "The Seine.", "It lies on the Seine."),
        ("The sun and", "The moon.", "The sun and The moon."),
        ("See the sun and", "The moon.", "See the sun and the moon."),
        ("It lies on", "...the Seine.", "It lies on the Seine."),
        ("It lies on", "… the Seine.", "It lies on the Seine."),
        ("It is Paris", ", on the Seine.", "It is Paris, on the Seine."),
        ("It is Paris", "Paris, on the Seine.", "It is Paris, on the Seine."),
        ("It is Paris", "Paris. It lies on the Seine.", "It is Paris. It lies on the Seine."),
        ("It is Paris,", "PARIS which is old.", "It is Paris, which is old."),
        ("It is ", " Paris.", "It is Paris."),
        ("It is ", "It is Paris.", "It is Paris."),
        ("It is Paris.\n", "It is old.", "It is Paris.\nIt is old."),
        ("It is Paris.", "it is old.", "It is Paris. It is old."),
        ("It is Paris.", "\n\nIt is old.", "It is Paris.\nIt is old."),
        (
            "The river that it lies on is named",
            "The river that it lies on is called",
            "The river that it lies on is named",
        ),
        ("It is minus", "-5 degrees.", "It is minus -5 degrees."),
        ("It is Paris, and Paris is", "Paris.", "It is Paris, and Paris is Paris."),
        ("It is Paris.", "It is Paris.", "It is Paris."),
        ("It is Paris", "It is Paris.", "It is Paris."),
        ("今日は晴れ", "です。", "今日は晴れです。"),
        ("今日は晴れ", "晴れです。", "今日は晴れです。"),
        ("It is the café", "cafe\u0301 on the corner.", "It is the café on the corner."),
        ("one", "", "one"),
        ("one", "   ", "one"),
        ("...", "Yes.", "... Yes."),
    ],
)
def test_the_joint_reads_as_if_it_were_none(said: str, goes_on: str, whole: str) -> None:
    assert joined(said, goes_on) == whole


def test_a_model_that_only_says_again_what_was_said_before_adds_nothing() -> None:
    said = "The capital of France is Paris, on the"
    assert joined(said, "The capital of France") == said
    assert joined(said, "capital of France is") == said


def test_nothing_is_held_back_longer_than_a_repetition_is_possible() -> None:
    continuation = Continuation("The capital of France is")
    assert continuation.feed("The capital of ") == ""
    assert continuation.feed("Spain ") == " The capital of Spain "
    assert continuation.feed("is Madrid ") == "is Madrid "


# ------------------------------------------------------------------------------------------ loops


@pytest.mark.parametrize(
    "phrase",
    ["I do not know. ", "Yes. No. ", " ".join(f"word{number}" for number in range(40)) + " ", "no "],
)
def test_a_model_that_loops_is_cut_off(phrase: str) -> None:
    continuation = Continuation()
    out = "".join(continuation.feed(phrase) for _ in range(100))
    assert continuation.loops
    assert out.count(phrase.strip()) < max(REPEATS, 8)
    assert continuation.feed("And now for something else. ") == ""


@pytest.mark.parametrize(
    "text",
    [
        "It is very, very, very good. ",
        "Row, row, row your boat. Row, row, row your boat. Row, row, row your boat. Gently down the stream. ",
        "One and two and three and four and five and six. ",
    ],
)
def test_what_people_say_twice_or_thrice_is_no_loop(text: str) -> None:
    continuation = Continuation()
    assert continuation.feed(text) + continuation.end() == text
    assert not continuation.loops
