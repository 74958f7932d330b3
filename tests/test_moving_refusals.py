"""When a room neither lets a conversation go nor takes one up: it says so at once, and nothing has been stopped."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from conftest import Run
from moving_house import MovingHouse, moving_house
from rooms import HELP, somebody_speaks, speaks, until
from roomtone.clock import utc_now
from roomtone.core.dialog import Session, Source, Timer
from roomtone.core.machine import Mode
from roomtone.core.signals import Prompt
from roomtone.core.wire import Bundle, Offer, Release, Reply


async def asked_to_let_go(house: MovingHouse, session: str) -> Reply:
    order = Release(handoff="h", session=session, epoch=0, target="kitchen-1", target_room="kitchen")
    return await house.tell("office", order)


async def offered(house: MovingHouse, persona: str = "companion") -> Reply:
    session = Session(room="office", persona=persona)
    bundle = Bundle(session=session, persona=persona)
    return await house.tell("kitchen", Offer(handoff="h", session=session.id, epoch=1, bundle=bundle))


def test_a_room_that_rings_lets_nothing_go(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=()) as house:
            office = house.rooms["office"]
            [turn] = await speaks(office)
            await office.room.parts.timers.save([Timer(seconds=1, due=utc_now() + timedelta(seconds=1))])
            while (await until(office, "turn.first_sound")).trace == turn.trace:
                pass
            assert (await asked_to_let_go(house, turn.session)).code == "DEVICE_BUSY"
            assert office.room.conversation.state.mode is Mode.SPEAKING

    run(scenario())


def test_a_room_that_says_something_from_another_says_it_to_its_end(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=()) as house:
            office = house.rooms["office"]
            [turn] = await speaks(office)
            text = "The laundry is done, and it would be nice if somebody could hang it up before it rains."
            prompt = Prompt(text, Source.HUB, verbatim=True, chime=True)
            office.room.conversation.take_in(prompt)
            while (await until(office, "turn.first_sound")).trace == turn.trace:
                pass
            assert (await asked_to_let_go(house, turn.session)).code == "DEVICE_BUSY"
            said = await until(office, "turn.ended")
            assert said.data.turn.spoken == text
            assert (await asked_to_let_go(house, turn.session)).ok

    run(scenario())


def test_a_room_that_speaks_takes_nothing_up(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(), kitchen=(HELP,)) as house:
            kitchen = house.rooms["kitchen"]
            kitchen.device.visit(await somebody_speaks())
            await until(kitchen, "turn.first_sound")
            assert (await offered(house)).code == "DEVICE_BUSY"
            await kitchen.at_rest()
            assert (await offered(house)).ok

    run(scenario())


def test_a_room_takes_up_nobodys_conversation_whom_it_does_not_know(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(), kitchen=()) as house:
            assert (await offered(house, "stranger")).code == "PERSONA_NOT_FOUND"
            assert (await offered(house)).ok

    run(scenario())
