"""A room whose model fails it: what the person is told says what is wrong, and whether anything had been said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, speaks
from roomtone.core.dialog import Ended, Turn
from roomtone.settings import Settings

ASK = "why is the sky blue"
SKY = "The sky is blue because of the air. It scatters blue light."

BRIDGES = ("Let me think. ", "One moment. ")
GONE = "I can't think that through right now: no language model answers me."
LIMIT = "I've asked the language model too often. Please try again in a while."
ACTED = "I have begun on that, but the language model broke off before it could tell you how it went."
LOST = "And there I lost my thread: the language model broke off."


def thinking(*replies: Any, questions: int = 1, **terms: Any) -> Settings:
    provider = {"engine": "script", "texts": replies, **terms}
    return scripted(*[ASK] * questions, llm={"providers": {"pi": provider}, "anticipate": False})


async def told(folder: Path, settings: Settings, questions: int = 1) -> Turn:
    async with room(settings, folder) as rehearsal:
        for _ in range(questions):
            [turn] = await speaks(rehearsal)
        return turn


def unbridged(spoken: str) -> str:
    """Take away what was said while the person waited."""
    for bridge in BRIDGES:
        spoken = spoken.removeprefix(bridge)
    return spoken


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"text": SKY, "stalls_after": 0}, GONE),
        ({"trouble": "busy"}, GONE),
        ({"trouble": "limit", "retry_after_s": 3}, LIMIT),
        ({"text": SKY, "dies_after": 9}, f"The sky is blue because of the air. {LOST}"),
        ({"text": SKY, "stalls_after": 9}, f"The sky is blue because of the air. {LOST}"),
    ],
)
def test_the_only_model_there_is_fails_and_the_person_is_told_how(
    run: Run[None], tmp_path: Path, reply: dict[str, Any], says: str
) -> None:
    async def scenario() -> None:
        turn = await told(tmp_path, thinking(*[reply] * 9))
        assert turn.ended is Ended.FAILED
        assert turn.error is not None
        assert turn.error.code == "LLM_API_ERROR"
        assert unbridged(turn.spoken) == says
        assert unbridged(turn.said) == says

    run(scenario())


def test_who_broke_off_after_it_had_done_something_leaves_nobody_to_think_that_nothing_was_done(
    run: Run[None], tmp_path: Path
) -> None:
    timer = {"calls": [{"name": "timer.set", "arguments": '{"seconds": 300, "name": "egg"}'}]}
    clock = {"calls": [{"name": "clock.now"}]}

    async def scenario() -> None:
        begun = await told(tmp_path / "begun", thinking(timer, *[{"trouble": "busy"}] * 9))
        assert unbridged(begun.spoken) == ACTED
        looked = await told(tmp_path / "looked", thinking(clock, *[{"trouble": "busy"}] * 9))
        assert unbridged(looked.spoken) == GONE

    run(scenario())


@pytest.mark.parametrize("text", ["```python\nprint('hi')\n```", "\N{THUMBS UP SIGN}", "| - |", "AbC4" * 100])
def test_an_answer_that_cannot_be_heard_is_no_silence(run: Run[None], tmp_path: Path, text: str) -> None:
    async def scenario() -> None:
        turn = await told(tmp_path, thinking(text))
        assert turn.ended is Ended.COMPLETED
        assert turn.spoken.endswith("The answer is nothing that can be said aloud.")

    run(scenario())


def test_who_asked_as_often_as_they_may_is_told_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        turn = await told(tmp_path, thinking(SKY, SKY, questions=2, tokens_per_day=10), 2)
        assert turn.spoken == LIMIT
        assert turn.error is not None
        assert turn.error.code == "LLM_API_ERROR"

    run(scenario())


def test_who_does_not_stop_is_cut_off_after_a_whole_word_and_the_person_told(run: Run[None], tmp_path: Path) -> None:
    counting = " ".join(f"Number {n} is bigger than number {n - 1}." for n in range(1000))

    async def scenario() -> None:
        turn = await told(tmp_path, thinking(counting))
        assert turn.ended is Ended.COMPLETED
        said, stops, rest = turn.spoken.partition("... I'd better stop there.")
        assert stops
        assert not rest
        assert f"{counting} ".startswith(f"{said.rstrip()} ")

    run(scenario())
