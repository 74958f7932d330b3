"""The beginning of a growing text that two hypotheses in a row agree on."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.agreement import Agreement, agree


def grown(*hypotheses: str) -> list[str]:
    agreement, texts = Agreement(), []
    for text in hypotheses:
        agreement = agree(agreement, text)
        texts.append(agreement.text)
    return texts


def test_words_are_kept_once_two_hypotheses_in_a_row_agree_on_them() -> None:
    assert grown("set", "set a tie", "set a timer for", "set a timer for nine") == [
        *("", "set", "set a", "set a timer for")
    ]


def test_what_was_kept_stays_when_a_hypothesis_contradicts_it() -> None:
    assert grown("set a", "set a timer", "said a time", "said a timer", "set a timer", "set a timer") == [
        *("", "set a", "set a", "set a", "set a", "set a timer")
    ]


def test_an_empty_hypothesis_takes_nothing_back() -> None:
    assert grown("stop", "stop", "", "stop it") == ["", "stop", "stop", "stop"]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5).map(" ".join), max_size=8))
def test_the_kept_words_only_grow_and_begin_one_hypothesis_at_least(hypotheses: list[str]) -> None:
    texts = grown(*hypotheses)
    for before, after in pairwise(texts):
        assert after.split()[: len(before.split())] == before.split()
    last = reduce(agree, hypotheses, Agreement())
    assert not last.kept or any(tuple(text.split())[: len(last.kept)] == last.kept for text in hypotheses)
