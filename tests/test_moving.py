"""A conversation that moves: the next room goes on with the next word, and all that belongs to it is there."""

from __future__ import annotations

from pathlib import Path

from conftest import Run
from moving_house import MovingHouse, moving_house
from rooms import HELP, somebody_speaks, until
from roomtone.core.dialog import Ended, Source, Turn


def plain(text: str) -> str:
    return " ".join(text.split())


async def says_in_the_middle(house: MovingHouse, where: str) -> None:
    """Let somebody ask for something long in a room, and speak again while it is answered."""
    rehearsal = house.rooms[where]
    rehearsal.device.visit(await somebody_speaks())
    await until(rehearsal, "turn.first_sound")
    await asleep(2.0)
    rehearsal.device.visit(await somebody_speaks())


async def asleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


def test_an_answer_is_finished_in_the_next_room_from_the_next_word_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, "continue in the kitchen"), kitchen=()) as house:
            await says_in_the_middle(house, "office")
            [[asked, moved], [rest]] = await house.rest("office", "kitchen")
            assert (asked.ended, moved.ended, moved.said) == (Ended.INTERRUPTED, Ended.MOVED, "")
            assert 0 < len(asked.spoken) < len(asked.said)
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)
            assert (rest.source, rest.ended, rest.room) == (Source.HUB, Ended.COMPLETED, "kitchen")
            assert (rest.session, rest.turn) == (asked.session, moved.turn + 1)

    run(scenario())
