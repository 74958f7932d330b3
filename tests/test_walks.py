"""A conversation walks between whole rooms with their stores and a hub with its file, and anybody may lose power."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Run
from rooms import HELP, somebody_speaks, until
from roomtone.core.dialog import Role
from roomtone.core.wire import Reply
from roomtone.rehearsal import Rehearsal
from walking_house import WalkingHouse, walking_house

STEPS = 6
"""Messages of a handoff: three commands, and their answers."""

Fault = Callable[[WalkingHouse], Awaitable[None]]


async def talks(house: WalkingHouse, where: str = "office") -> str:
    """Let somebody be answered for some seconds; return the session."""
    room = house.rooms[where].rehearsal
    assert room is not None
    room.device.visit(await somebody_speaks())
    await until(room, "turn.first_sound")
    await asyncio.sleep(2.0)
    await house.tell(where)
    session = room.room.conversation.recorder.session
    assert session is not None
    return session.id


def said_once(house: WalkingHouse, session: str) -> bool:
    """Say whether of the long answer no word was heard twice, by what the rooms say that was heard of it."""
    whole = max((turn.said for turn in house.sounded if turn.heard == HELP), default="").split()
    at = 0
    for turn in house.sounded:
        spoken = turn.spoken.split()
        if turn.session != session or not spoken or spoken[0] not in whole:
            continue
        found = [n for n in range(len(whole)) if whole[n : n + len(spoken)] == spoken]
        if not found:
            continue  # it is no part of the answer, but why the conversation came back
        if found[-1] < at:
            return False
        at = found[-1] + len(spoken)
    return True


async def texts(room: Rehearsal, session: str) -> list[tuple[Role, str]]:
    rows = await room.room.store.read("SELECT role, text FROM messages WHERE session = ? ORDER BY rowid", session)
    return [(Role(row["role"]), row["text"]) for row in rows]


async def ends_well(house: WalkingHouse, session: str) -> None:
    """Let everybody be back, and look that the conversation is in one room, whole, and was said once."""
    await house.everybody_is_back()
    await house.flow(40.0)
    acting = [place for place in house.rooms.values() if place.acts(session)]
    assert len(acting) == 1, [place.name for place in acting]
    room = acting[0].rehearsal
    assert room is not None
    asked = [text for role, text in await texts(room, session) if role is Role.PERSON]
    assert asked == [HELP], asked
    assert said_once(house, session), [turn.spoken for turn in house.sounded]


FAULTS: dict[str, Fault] = {
    "the source": lambda house: house.kill("office"),
    "the target": lambda house: house.kill("kitchen"),
    "the hub": lambda house: house.end_hub(),
    "the hub and its file": lambda house: house.end_hub(loses_its_file=True),
}


@dataclass(frozen=True)
class PowerCut:
    """Who loses power before which message, for how long; ``with_answer``: its last answer reaches nobody."""

    who: str
    step: int
    lasts_s: float = 0.0
    with_answer: bool = False


CUTS = (
    *(PowerCut("the source", step) for step in range(5)),
    *(PowerCut("the source", step, with_answer=True) for step in (1,)),
    *(PowerCut("the target", step) for step in range(2, 6)),
    *(PowerCut("the target", step, with_answer=True) for step in (3, 5)),
    *(PowerCut("the target", step, 24.0, with_answer=True) for step in (3, 5)),
    *(PowerCut("the hub", step) for step in range(6)),
    *(PowerCut("the hub and its file", step) for step in range(5)),
)
"""24 s: longer than the lease, so that the source has it back."""


async def walk(folder: Path, cut: PowerCut) -> None:
    async with walking_house(folder, office=(HELP,), kitchen=()) as house:
        session = await talks(house)
        assert (await house.hand_off("office", "kitchen")).ok
        for step in range(STEPS):
            if step == cut.step:
                if cut.with_answer:
                    house.under_way = [one for one in house.under_way if not isinstance(one.what, Reply)]
                await FAULTS[cut.who](house)
                await house.wait(cut.lasts_s)
                await house.everybody_is_back()
            if house.under_way:
                await house.arrive()
                house.check()
            await house.wait(0.1)
        await ends_well(house, session)


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_who_loses_power_between_two_messages_costs_nothing(run: Run[None], tmp_path: Path, cut: PowerCut) -> None:
    run(walk(tmp_path, cut))
