"""Whole rooms with their stores, a hub with its file, and a wire on which each message waits until it is let through.

A room that dies leaves its files as they are at that moment, and so does the hub.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moving_house import Nearby, opened
from rooms import scripted
from roomtone.core.dialog import Turn, new_id
from roomtone.core.handoff import Send
from roomtone.core.wire import (
    Adopt,
    Announce,
    Command,
    Follow,
    HandOff,
    Offer,
    Presence,
    Release,
    Reply,
    State,
    write,
)
from roomtone.flow import Event
from roomtone.hub.database import open_database
from roomtone.hub.handoffs import Handoffs
from roomtone.hub.registry import Registry
from roomtone.hub.requests import Requests
from roomtone.moving import Mover
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

TICK_S = 0.1


class Life:
    """One run of a room's program, until ``end``."""

    def __init__(self, settings: Settings, folder: Path, sounded: Callable[[Event], None]) -> None:
        self.folder = folder
        self.instance = new_id()
        self._settings = settings
        self._sounded = sounded
        self._over = asyncio.Event()
        self._open: asyncio.Future[Rehearsal] = asyncio.get_running_loop().create_future()

    async def run(self, name: str, house: Any) -> None:
        async with opened(self._settings, self.folder, one_session=False) as rehearsal:
            rehearsal.show = self._sounded
            rehearsal.room.parts.housed.house = Nearby(house, name)
            self._open.set_result(rehearsal)
            await self._over.wait()

    async def begun(self) -> Rehearsal:
        return await self._open

    def end(self) -> None:
        self._over.set()


@dataclass
class Place:
    """A room: its folder outlives its program."""

    name: str
    folder: Path
    settings: Settings
    life: Life | None = None
    task: asyncio.Task[None] | None = None
    rehearsal: Rehearsal | None = None
    mover: Mover | None = None

    def acts(self, session: str) -> bool:
        """Say whether whoever speaks here now may be answered in this session."""
        if self.rehearsal is None:
            return False
        recorder = self.rehearsal.room.conversation.recorder
        present = recorder.session
        return present is not None and present.id == session and recorder.owned.acts(session)


@dataclass
class Waiting:
    """A command to a room, or a reply to the hub, on its way."""

    room: str
    what: Release | Offer | Adopt | Reply
    at: float


class Nobody:
    """Brings no words anywhere."""

    async def announce(self, request: Announce, sender: str | None = None) -> Reply:
        raise AssertionError(request, sender)


@dataclass
class WalkingHouse:
    """``sounded`` are the turns that ended, in order, with what was heard of them; a room is called as its device."""

    group: asyncio.TaskGroup
    folder: Path
    rooms: dict[str, Place] = field(default_factory=dict)
    under_way: list[Waiting] = field(default_factory=list)
    sounded: list[Turn] = field(default_factory=list)
    first_sounds: list[tuple[str, float]] = field(default_factory=list)
    handoffs: Handoffs | None = None
    requests: Requests | None = None
    registry: Registry | None = None
    _hub: AsyncExitStack = field(default_factory=AsyncExitStack)

    # ---------------------------------------------------------------------------------------- the rooms

    async def begin(self, name: str) -> None:
        """Start a room's program."""
        place = self.rooms[name]
        if place.life is not None:
            return

        def note(event: Event) -> None:
            if event.kind == "turn.ended":
                self.sounded.append(event.data.turn)
            if event.kind == "turn.first_sound":
                self.first_sounds.append((name, asyncio.get_running_loop().time()))

        place.life = Life(place.settings, place.folder, note)
        place.task = self.group.create_task(place.life.run(name, self))
        place.rehearsal = await place.life.begun()
        place.mover = place.rehearsal.room.conversation.mover(name, lambda: "hub.local")
        await self._present(place)
        await self.tell(name)

    async def kill(self, name: str) -> None:
        """Let a room lose its power: what was not on its disk by now never was."""
        place = self.rooms[name]
        if place.life is None or place.task is None:
            return
        kept = place.folder.with_name(f"{name}-at-power-cut")
        shutil.copytree(place.folder, kept)
        place.life.end()
        await asyncio.wait([place.task])
        place.life = place.task = place.rehearsal = place.mover = None
        shutil.rmtree(place.folder)
        kept.rename(place.folder)
        self.under_way = [one for one in self.under_way if isinstance(one.what, Reply) or one.room != name]
        await self._present(place)

    async def _present(self, place: Place) -> None:
        if self.registry is None or self.handoffs is None:
            return
        here = place.life is not None
        instance = place.life.instance if place.life is not None else ""
        presence = Presence(id=place.name, online=here, instance=instance, room=place.name, capabilities=("handoff",))
        self.registry.on_presence(place.name, write(presence), asyncio.get_running_loop().time())
        if here:
            await self.handoffs.on_online(place.name)

    async def tell(self, name: str) -> None:
        """Let the hub know how a room stands."""
        place = self.rooms[name]
        if self.registry is None or self.handoffs is None or place.mover is None or place.rehearsal is None:
            return
        session, epoch = place.mover.standing()
        mode = place.rehearsal.room.conversation.state.mode.value
        state = State(session=session, epoch=epoch, state=mode, idle_s=0.0, released=place.mover.released)
        self.registry.on_state(name, state, asyncio.get_running_loop().time(), retained=False)
        await self.handoffs.on_state(name, state)

    # ------------------------------------------------------------------------------------------ the hub

    async def begin_hub(self) -> None:
        """Start a hub where none is."""
        if self.handoffs is not None:
            return
        database = await self._hub.enter_async_context(open_database(self.folder / "hub.db"))
        self.registry = Registry(database)
        await self.registry.load()
        self.handoffs = Handoffs(database, self.registry, self._deliver)
        self.requests = Requests(database, self.registry, self.handoffs, Nobody(), self._ask)
        for place in self.rooms.values():
            await self._present(place)
            await self.tell(place.name)

    async def end_hub(self, *, loses_its_file: bool = False) -> None:
        """End the hub; what was on its way to it is lost."""
        self.handoffs = self.requests = self.registry = None
        await self._hub.aclose()
        self.under_way = [one for one in self.under_way if not isinstance(one.what, Reply)]
        for file in self.folder.glob("hub.db*") if loses_its_file else ():
            file.unlink()

    async def everybody_is_back(self) -> None:
        """Start whoever lost power."""
        await self.begin_hub()
        for name in self.rooms:
            await self.begin(name)

    async def _deliver(self, send: Send) -> None:
        self.under_way.append(Waiting(send.to, send.command, asyncio.get_running_loop().time()))

    async def _ask(self, _: str, command: Command) -> Reply:
        raise AssertionError(command)

    async def hand_off(self, name: str, to: str) -> Reply:
        """Ask the hub, which is there, to let the conversation of a room go on in another."""
        mover = self.rooms[name].mover
        assert mover is not None
        session, epoch = mover.standing()
        return await self._asked(HandOff(to=to, session=session, epoch=epoch), name)

    async def follow(self, name: str) -> Reply:
        """Ask the hub for the conversation that another room had last."""
        return await self._asked(Follow(), name)

    async def _asked(self, request: HandOff | Follow, name: str) -> Reply:
        assert self.requests is not None
        reply = await self.requests.answer(request, name)
        assert reply is not None
        return reply

    # -------------------------------------------------------------------------------------- what happens

    async def arrive(self, *, answered: bool = True) -> None:
        """Let the next message arrive; a command that is not ``answered`` is done, and the answer lost."""
        one = self.under_way.pop(0)
        if isinstance(one.what, Reply):
            if self.handoffs is not None:
                await self.handoffs.on_reply(one.room, Reply.model_validate_json(one.what.model_dump_json()))
            return
        mover = self.rooms[one.room].mover
        if mover is None:
            return
        command = type(one.what).model_validate_json(one.what.model_dump_json())
        ways: dict[type, Callable[[Any], Any]] = {Release: mover.release, Offer: mover.offer, Adopt: mover.adopt}
        reply = await ways[type(command)](command)
        await self.tell(one.room)
        if answered:
            self.under_way.append(Waiting(one.room, reply, asyncio.get_running_loop().time()))

    async def wait(self, seconds: float) -> None:
        """Let time pass, in which the hub does what is due and nothing arrives."""
        for _ in range(round(seconds / TICK_S)):
            await asyncio.sleep(TICK_S)
            if self.handoffs is not None:
                await self.handoffs.find_lost()
                await self.handoffs.take_due()
            self.check()

    async def flow(self, seconds: float) -> None:
        """Let time pass, in which everything arrives."""
        for _ in range(round(seconds / TICK_S)):
            while self.under_way:
                await self.arrive()
                self.check()
            for name in self.rooms:
                await self.tell(name)
            await self.wait(TICK_S)

    def check(self) -> None:
        """Look that no two rooms go on with one conversation."""
        rooms = [place.rehearsal.room for place in self.rooms.values() if place.rehearsal is not None]
        recorders = [(room.conversation.recorder, room.conversation.recorder.session) for room in rooms]
        acting = Counter(session.id for recorder, session in recorders if session and recorder.owned.acts(session.id))
        assert all(count == 1 for count in acting.values()), acting


@asynccontextmanager
async def walking_house(folder: Path, **rooms: Any) -> AsyncIterator[WalkingHouse]:
    """Open a hub and rooms by name, each with the texts that it hears, or its settings."""
    async with asyncio.TaskGroup() as group:
        house = WalkingHouse(group, folder)
        for name, given in rooms.items():
            about = {"device": {"id": name, "name": name, "room": name}}
            settings = scripted(*given, **about) if isinstance(given, tuple) else given
            (folder / name).mkdir()
            house.rooms[name] = Place(name, folder / name, settings)
        await house.begin_hub()
        for name in rooms:
            await house.begin(name)
        yield house
        for place in house.rooms.values():
            if place.life is not None:
                place.life.end()
        await house.end_hub()
