"""A model that thinks aloud: only its answer is for the ear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.thoughts import TAGS, Aloud


def aloud(*pieces: str) -> str:
    filter_ = Aloud()
    return "".join([*(filter_.of(piece) for piece in pieces), filter_.rest()])


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>They want the time.</think>\n\nIt is noon.", "It is noon."),
        ("It is <thinking>which zone?</thinking>noon.", "It is noon."),
        ("<think>Never closed, never said", ""),
        ("A < b and <thin ice>.", "A < b and <thin ice>."),
        ("One <think>a</think>two <reasoning>b</reasoning>three", "One two three"),
        ("Ends in a <thi", "Ends in a <thi"),
        ("", ""),
    ],
)
def test_thoughts_are_not_said(reply: str, said: str) -> None:
    assert aloud(reply) == said


PART = st.one_of(st.text("ab <>/k", max_size=12), st.sampled_from([tag for pair in TAGS for tag in pair]))


@given(st.lists(PART, max_size=12).map("".join), st.data())
def test_it_does_not_matter_how_a_reply_was_cut(reply: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    pieces = [reply[start:end] for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert aloud(*pieces) == aloud(reply)


@given(st.text("ab >/", max_size=40))
def test_what_holds_no_tag_is_said_whole(reply: str) -> None:
    assert aloud(reply) == reply
