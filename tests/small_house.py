"""A house of rooms in one loop: each a rehearsal that has joined, the hub's own parts, and a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from house_wire import Wire, WireLink
from rooms import room, scripted, speaks
from roomtone.core.dialog import Turn
from roomtone.core.wire import REQUEST, Announce, Command, Payload, Presence, Reply, State, read
from roomtone.flow import beside, worker
from roomtone.hub.announcements import Announcements
from roomtone.hub.database import HubDatabase
from roomtone.hub.registry import Registry
from roomtone.hub.requests import Requests
from roomtone.joining import Joined, joined
from roomtone.link import Inbound
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Hub


class SmallHub:
    """A hub that knows its rooms and does what they ask, but for handoffs."""

    def __init__(self, link: WireLink, database: HubDatabase) -> None:
        self.link, self.registry = link, Registry(database)
        self.announcements = Announcements(link, self.registry)
        self._requests = Requests(database, self.registry, None, self.announcements, self._ask)  # type: ignore[arg-type]
        link.on(link.topics.device("+", "presence"), self._presence)
        link.on(link.topics.device("+", "state"), self._state)
        link.on(link.topics.shared("+", "request"), self._request)

    async def announce(self, **request: Any) -> Reply:
        """Announce something for the house itself."""
        return await self.announcements.announce(Announce(**request))

    async def _ask(self, device: str, command: Command) -> Reply:
        topics = self.link.topics
        to, back = topics.device(device, "command"), topics.device(device, "reply")
        return await self.link.ask(to, command, response_topic=back, within_s=1.0)

    async def _presence(self, message: Inbound) -> None:
        self.registry.on_presence(self._of(message), message.payload, self._now())

    async def _state(self, message: Inbound) -> None:
        state = read(State, message.payload)
        self.registry.on_state(self._of(message), state, self._now(), retained=message.retained)

    async def _request(self, message: Inbound) -> None:
        reply = await self._requests.answer(read(REQUEST, message.payload), self._of(message))
        if reply is not None:
            await self.link.answer(message, reply, "nowhere")

    def _of(self, message: Inbound) -> str:
        return self.link.topics.device_of(message.topic) or ""

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass
class SmallHouse:
    """The rooms by name, each with its place in the house."""

    wire: Wire
    hub: SmallHub
    rooms: dict[str, Rehearsal] = field(default_factory=dict)
    places: dict[str, Joined] = field(default_factory=dict)

    async def speaks(self, where: str) -> list[Turn]:
        """Let somebody speak in a room, and wait until it has come to rest."""
        return await speaks(self.rooms[where])

    async def rests(self, where: str) -> list[Turn]:
        """Wait until a room has come to rest; return its new turns."""
        return await self.rooms[where].at_rest()

    def link(self, where: str) -> WireLink:
        """Return a room's link."""
        link = self.places[where].link
        assert isinstance(link, WireLink)
        return link


def furnished(name: str, *heard: str, **sections: Any) -> Any:
    """Return settings of a room of the house that hears these texts."""
    device = {"id": f"{name}-1", "name": name, "room": name}
    return scripted(*heard, device=device, hub={"url": "mqtts://hub.local"}, **sections)


@asynccontextmanager
async def small_house(tmp_path: Path, **rooms: Any) -> AsyncIterator[SmallHouse]:
    """Open rooms (texts that each hears, or its settings) and a hub."""
    wire = Wire()
    async with AsyncExitStack() as stack:
        database = HubDatabase(tmp_path / "hub.db", stack.enter_context(worker("hub")))
        await database.open()
        stack.push_async_callback(database.close)
        link = wire.link_of(Hub(), "hub", _hub_presence, wire_topics().hub())
        house = SmallHouse(wire, SmallHub(link, database))
        await stack.enter_async_context(beside(link.run(), "hub"))
        for name, given in rooms.items():
            settings = furnished(name, *given) if isinstance(given, tuple) else given
            folder = tmp_path / name
            folder.mkdir()
            rehearsal = await stack.enter_async_context(room(settings, folder))
            place = await stack.enter_async_context(joined(rehearsal.room, link_of=wire.link_of))
            house.rooms[name], house.places[name] = rehearsal, place
        await asyncio.sleep(1)
        yield house


def wire_topics() -> Any:
    """Return the topics of the home that settings name by default."""
    from roomtone.core.wire import Topics

    return Topics(Hub().home)


def _hub_presence() -> Payload:
    return Presence(id="hub", online=True)
