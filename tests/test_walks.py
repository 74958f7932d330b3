"""A conversation walks between whole rooms with their stores and a hub with its file, and anybody may lose power."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import Run
from rooms import HELP, somebody_speaks, until
from roomtone.clock import utc_now
from roomtone.core.dialog import Role, Timer
from roomtone.core.errors import PersonaNotFound, StoreError
from roomtone.core.wire import Adopt, HandOff, Offer, Release, Reply
from roomtone.personas.cast import ReadyPersona
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
    await house.flow(20.0)  # more than the longest wait until something is sent again
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


# ------------------------------------------------------------------------------ what else may be in the way


@contextmanager
def a_full_disk(house: WalkingHouse, name: str) -> Iterator[None]:
    """Let a room write nothing for as long as the context lasts."""
    room = house.rooms[name].rehearsal
    assert room is not None
    store, write = room.room.store, room.room.store.write

    async def fails(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    store.write = fails  # type: ignore[method-assign]
    try:
        yield
    finally:
        store.write = write  # type: ignore[method-assign]


async def until_it_is(house: WalkingHouse, kind: type, room: str) -> None:
    """Let messages arrive until one of a kind is the next, for a room."""
    while not (house.under_way and isinstance(house.under_way[0].what, kind) and house.under_way[0].room == room):
        if house.under_way:
            await house.arrive()
        await house.wait(0.1)


@pytest.mark.parametrize(("room", "kind"), [("office", Release), ("kitchen", Offer), ("kitchen", Adopt)])
def test_a_full_disk_leaves_it_where_it_was(run: Run[None], tmp_path: Path, room: str, kind: type) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            await house.hand_off("office", "kitchen")
            await until_it_is(house, kind, room)
            with a_full_disk(house, room):
                await house.arrive()
            await house.flow(2.0)
            assert house.rooms["office"].acts(session)
            await ends_well(house, session)

    run(scenario())


def test_who_cannot_have_it_back_for_a_full_disk_has_it_when_there_is_room(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            await house.hand_off("office", "kitchen")
            await house.kill("kitchen")
            await until_it_is(house, Adopt, "office")
            with a_full_disk(house, "office"):
                await house.flow(5.0)
                assert not house.rooms["office"].acts(session)
            await house.flow(15.0)
            assert house.rooms["office"].acts(session)
            await ends_well(house, session)

    run(scenario())


def test_timers_come_home_though_nobody_is_there_any_more_who_could_go_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            office = house.rooms["office"].rehearsal
            assert office is not None
            pasta = Timer(name="pasta", seconds=3600, due=utc_now() + timedelta(hours=1), session=session)
            await office.room.parts.timers.save([pasta])
            await house.hand_off("office", "kitchen")
            await house.arrive()
            assert await office.room.store.timers() == []
            await house.kill("kitchen")

            async def nobody(persona: str) -> ReadyPersona:
                raise PersonaNotFound(f"there is no persona called {persona}")

            office.room.parts.cast.ready = nobody  # type: ignore[method-assign]
            await house.flow(5.0)
            assert [timer.name for timer in await office.room.store.timers()] == ["pasta"]

    run(scenario())


def test_what_nobody_waits_for_any_more_is_not_said_where_it_goes(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            await house.hand_off("office", "kitchen")
            await until_it_is(house, Offer, "kitchen")
            offer = house.under_way[0].what
            assert isinstance(offer, Offer)
            house.under_way[0].what = offer.model_copy(update={"at": offer.at + timedelta(hours=1)})
            await ends_well(house, session)
            assert [room for room, _ in house.first_sounds] == ["office"]

    run(scenario())


def test_what_nobody_waits_for_any_more_is_not_said_where_it_comes_back(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            await house.hand_off("office", "kitchen")
            await house.arrive()
            await house.end_hub()
            await house.kill("kitchen")
            await house.wait(3600.0)
            await house.begin_hub()
            await house.flow(10.0)
            assert house.rooms["office"].acts(session)
            await ends_well(house, session)
            assert [room for room, _ in house.first_sounds] == ["office"]

    run(scenario())


def test_of_two_rooms_that_are_wanted_at_once_one_has_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=(), bath=()) as house:
            session = await talks(house)
            codes = [(await house.hand_off("office", to)).code for to in ("kitchen", "bath")]
            assert codes == ["", "DEVICE_BUSY"]
            assert (await house.follow("bath")).code == "SESSION_NOT_FOUND"
            await until_it_is(house, Adopt, "kitchen")
            await house.arrive()
            assert (await house.hand_off("kitchen", "office")).code == "DEVICE_BUSY"
            await ends_well(house, session)
            assert house.rooms["kitchen"].acts(session)

    run(scenario())


def test_two_rooms_can_change_their_conversations(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=(HELP,)) as house:
            first, second = await talks(house), await talks(house, "kitchen")
            for name in house.rooms:
                room = house.rooms[name].rehearsal
                assert room is not None
                await room.at_rest()
                await house.tell(name)
            assert (await house.hand_off("office", "kitchen")).ok
            assert (await house.hand_off("kitchen", "office")).ok
            await house.flow(20.0)
            assert house.rooms["kitchen"].acts(first)
            assert house.rooms["office"].acts(second)

    run(scenario())


def test_a_room_that_was_given_back_an_old_store_lets_go_of_what_is_elsewhere(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            await house.flow(2.0)  # what was said is on the disk
            await house.kill("office")
            shutil.copytree(tmp_path / "office", tmp_path / "backup")
            await house.begin("office")
            await house.hand_off("office", "kitchen")
            await house.flow(20.0)
            await house.kill("office")
            shutil.rmtree(tmp_path / "office")
            shutil.copytree(tmp_path / "backup", tmp_path / "office")
            await house.begin("office")
            while house.under_way:
                await house.arrive()
            await house.flow(20.0)
            assert house.rooms["kitchen"].acts(session)
            assert [command.what for command in house.under_way] == []

    run(scenario())


def test_what_a_room_has_not_been_asked_it_does_not_answer_for_another(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=(), bath=()) as house:
            session = await talks(house)
            await house.hand_off("office", "kitchen")
            await until_it_is(house, Offer, "kitchen")
            assert house.handoffs is not None
            forged = Reply(of=house.under_way[0].what.id, ok=False, code="DEVICE_BUSY")  # type: ignore[union-attr]
            await house.handoffs.on_reply("bath", forged)
            await house.flow(2.0)
            assert house.rooms["kitchen"].acts(session)

    run(scenario())


def test_the_hub_knows_how_often_it_moved_where_who_asks_does_not(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with walking_house(tmp_path, office=(HELP,), kitchen=()) as house:
            session = await talks(house)
            for source, target in (("office", "kitchen"), ("kitchen", "office")):
                assert house.requests is not None
                reply = await house.requests.answer(HandOff(to=target, session=session, epoch=0), source)
                assert reply is not None
                assert reply.ok
                await house.flow(2.0)
                assert house.rooms[target].acts(session)

    run(scenario())
