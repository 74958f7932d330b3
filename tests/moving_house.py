"""Rooms in one loop between which a conversation moves: the hub is its own pure half, and nothing is in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rooms import scripted
from roomtone import engines
from roomtone.core.dialog import Turn, new_id
from roomtone.core.errors import DeviceNotFound, HandoffRefused
from roomtone.core.handoff import Handoff, Late, Own, Phase, Replied, Send, step
from roomtone.core.wire import Adopt, Bundle, Code, Offer, Release, Reply
from roomtone.mind.house import Alone, Neighbour
from roomtone.moving import Mover
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings


class Nearby(Alone):
    """The house as one room sees it."""

    def __init__(self, house: MovingHouse, room: str) -> None:
        super().__init__(room)
        self._house = house

    def rooms(self) -> Sequence[Neighbour]:  # type: ignore[override]
        return [Neighbour(f"{name}-1", name) for name in self._house.rooms if name != self.room]

    def find(self, spoken: str) -> Neighbour:
        if spoken == self.room:
            raise DeviceNotFound(f"this is {spoken}", why=Code.ITSELF)
        for each in self.rooms():
            if each.room == spoken:
                return each
        raise DeviceNotFound(f"there is no room called {spoken}")

    async def hand_off(self, to: Neighbour, why: str = "") -> None:
        refusal = self._house.refuses
        if refusal:
            raise HandoffRefused("the hub refused it", why=refusal)
        self._house.begin(self.room, to.room)


@dataclass
class MovingHouse:
    """The rooms, and the hub's part. ``answers`` may take the place of a room's answer to a command."""

    group: asyncio.TaskGroup
    rooms: dict[str, Rehearsal] = field(default_factory=dict)
    movers: dict[str, Mover] = field(default_factory=dict)
    owners: dict[str, tuple[str, int]] = field(default_factory=dict)
    bundles: list[Bundle] = field(default_factory=list)
    refuses: str = ""
    answers: Callable[[str, Release | Offer | Adopt], Reply | None] = lambda *_: None

    def begin(self, source: str, target: str, **more: Any) -> None:
        """Let the present conversation of a room go on in another, as the hub does once it has agreed."""
        self.group.create_task(self.moved(source, target, **more))

    async def moved(self, source: str, target: str, **more: Any) -> Handoff:
        """Take a handoff to its end; return it."""
        session, epoch = self.movers[source].standing()
        assert session is not None
        handoff = Handoff(new_id(), session, source, target, target, epoch, **more)
        handoff, orders = step(handoff, Late(), 0.0)
        while orders:
            reply = None
            for order in orders:
                if isinstance(order, Own):
                    self.owners[order.session] = (order.owner, order.epoch)
                elif isinstance(order, Send):
                    reply = await self.tell(order.to, order.command)
            if reply is None:
                return handoff
            bundle = reply.data.get("bundle")
            self.bundles += [Bundle.model_validate(bundle)] if bundle else []
            came = Replied(
                handoff.phase, handoff.sent, "" if reply.ok else reply.code, self.bundles[-1] if bundle else None
            )
            handoff, orders = step(handoff, came, 0.0)
        assert handoff.phase in (Phase.OVER, Phase.RETURNING)  # who cannot have it back is told again some time
        return handoff

    async def tell(self, where: str, command: Release | Offer | Adopt) -> Reply:
        """Give a room a command, over the wire and back."""
        instead = self.answers(where, command)
        if instead is not None:
            return instead
        mover = self.movers[where]
        command = type(command).model_validate_json(command.model_dump_json())
        ways = {Release: mover.release, Offer: mover.offer, Adopt: mover.adopt}
        reply: Reply = await ways[type(command)](command)  # type: ignore[arg-type, operator]
        return Reply.model_validate_json(reply.model_dump_json())

    async def rest(self, *where: str) -> list[list[Turn]]:
        """Wait until rooms have come to rest; return the turns of each since the last time, by their numbers."""
        return [sorted(await self.rooms[each].at_rest(), key=lambda turn: turn.turn) for each in where]


def opened(settings: Settings, folder: Path, one_session: bool) -> AbstractAsyncContextManager[Rehearsal]:
    return rehearsing(settings, folder, ("wav", engines.load("audio", "wav").Settings()), one_session=one_session)


@asynccontextmanager
async def moving_house(folder: Path, *, one_session: bool = True, **rooms: Any) -> AsyncIterator[MovingHouse]:
    """Open rooms by name, each with the texts that it hears, or its settings."""
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        house = MovingHouse(group)
        for name, given in rooms.items():
            settings = scripted(*given, **named(name)) if isinstance(given, tuple) else given
            (folder / name).mkdir(exist_ok=True)
            rehearsal = await stack.enter_async_context(opened(settings, folder / name, one_session))
            house.rooms[name] = rehearsal
            house.movers[name] = rehearsal.room.conversation.mover(f"{name}-1", lambda: "hub.local")
            rehearsal.room.parts.housed.house = Nearby(house, name)
        yield house


def named(name: str) -> dict[str, Any]:
    """Return the section that says which room it is."""
    return {"device": {"id": f"{name}-1", "name": name, "room": name}}
