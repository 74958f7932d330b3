"""Whoever goes to another room and calls there goes on with what they talked of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from conftest import Run
from roomtone.core.arbitration import Kind
from roomtone.core.machine import Mode, State
from roomtone.edges.claims import Outcome
from roomtone.edges.following import Following
from roomtone.flow import Feed, beside

WAITS = State(mode=Mode.LISTENING, called=True)


async def brought(tell: Callable[[Feed], None], idle_s: float | None = None) -> list[float]:
    """Tell a feed something; return how far back a conversation was asked for."""
    feed, asked = Feed(), list[float]()

    async def bring(within_s: float) -> bool:
        asked.append(within_s)
        return True

    async with beside(Following(feed, 30.0, bring, lambda: idle_s).run(), "following"):
        await asyncio.sleep(0.01)
        tell(feed)
        await asyncio.sleep(0.01)
    return asked


def won(kind: Kind) -> Callable[[Feed], None]:
    return lambda feed: void(feed.publish("wake.won", Outcome(1, kind, 10.0), source="test"))


def changes(*states: State) -> Callable[[Feed], None]:
    def tell(feed: Feed) -> None:
        for state in states:
            feed.publish("state.changed", state, source="test")

    return tell


def void(_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("tell", "asked"),
    [
        (won(Kind.WAKE), [30.0]),
        (won(Kind.SPEECH), []),
        (won(Kind.INTERRUPTION), []),
        (changes(WAITS), [30.0]),
        (changes(replace(WAITS, call=1)), []),
        (changes(replace(WAITS, called=False)), []),
        (changes(State(mode=Mode.SPEAKING), WAITS), []),
    ],
)
def test_a_conversation_is_brought_to_a_call_or_a_press_in_a_room_at_rest(
    run: Run[list[float]], tell: Callable[[Feed], None], asked: list[float]
) -> None:
    assert run(brought(tell)) == asked


@pytest.mark.parametrize(("idle_s", "asked"), [(5.0, [5.0]), (100.0, [30.0]), (0.0, [])])
def test_what_was_talked_of_here_since_stays(run: Run[list[float]], idle_s: float, asked: list[float]) -> None:
    assert run(brought(won(Kind.WAKE), idle_s)) == asked
