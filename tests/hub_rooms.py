"""Rooms as the hub sees them: a link, the holds of a device on a disk that outlives it, and what it says aloud."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from roomtone.core.dialog import Message, Role, Session, new_id
from roomtone.core.handoff import Decision, Does, Hold, Standing, on_adopt, on_offer, on_release
from roomtone.core.wire import (
    COMMAND,
    Adopt,
    Bundle,
    Command,
    Follow,
    HandOff,
    Offer,
    Presence,
    Release,
    Reply,
    Request,
    Rest,
    State,
    read,
)
from roomtone.flow import beside
from roomtone.link import Inbound, Link
from roomtone.settings import Hub

__all__ = ["Disk", "HubRoom", "hub_room", "until"]

PATIENCE_S = 20.0


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds, looking often; a bound that only a broken program meets."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110  # what holds is another program's doing
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it never came to be: {what}") from None


@dataclass
class Disk:
    """What a device has written down: its own session, its holds, its bundles."""

    session: str | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    messages: dict[str, list[Message]] = field(default_factory=dict)
    rests: dict[str, Rest | None] = field(default_factory=dict)


class HubRoom:
    """A device as far as handoffs go. ``hindrance`` is why it takes no session up; ``said`` what it says aloud."""

    def __init__(self, hub: Hub, id_: str, disk: Disk, room: str) -> None:
        self.id = id_
        self.disk = disk
        self.room = room
        self.hindrance = ""
        self.deaf_to: set[str] = set()
        self.state = State()
        self.said: list[str] = []
        self.confirmed: set[str] = set()
        self.decisions: list[Does] = []
        self.capabilities = ("handoff", "announce", "timers")
        self.instance = new_id()
        self.link = Link(hub, id_, self.presence, f"roomtone/v1/{hub.home}/device/{id_}/presence")
        self.link.on(self.topic("command"), self._command)

    def topic(self, what: str) -> str:
        return self.link.topics.device(self.id, what)

    def presence(self) -> Presence:
        return Presence(
            id=self.id, online=True, instance=self.instance, room=self.room, capabilities=self.capabilities
        )

    async def tell(self, **changes: object) -> None:
        """Change the state and publish it."""
        self.state = self.state.model_copy(update=changes)
        await self.link.publish(self.topic("state"), self.state, retain=True)

    async def talk(self, *texts: str, rest: str = "") -> str:
        """Have a conversation here, of which ``rest`` is still to be said; return its session."""
        session = self.disk.session = new_id()
        messages = [Message(session=session, role=Role.PERSON, text=text, persona="companion") for text in texts]
        self.disk.messages[session] = messages
        self.disk.rests[session] = Rest(trace="t", text=rest) if rest else None
        await self.tell(session=session, epoch=0, idle_s=0.0)
        return session

    async def ask(self, request: Request) -> Reply:
        return await self.link.ask(
            self.topic("request"), request, response_topic=self.topic("reply"), within_s=PATIENCE_S
        )

    async def hand_off(self, to: str) -> Reply:
        hold = self.disk.holds.get(self.disk.session or "")
        return await self.ask(HandOff(to=to, session=self.disk.session, epoch=hold.epoch if hold else 0))

    async def follow(self) -> Reply:
        return await self.ask(Follow())

    def holds(self, session: str) -> bool:
        hold = self.disk.holds.get(session)
        return self.disk.session == session and (hold is None or hold.standing is Standing.HELD)

    # ---------------------------------------------------------------------------------------- commands

    async def _command(self, message: Inbound) -> None:
        command = read(COMMAND, message.payload)
        if command.do in self.deaf_to:
            return
        reply = await self._obey(command)
        await self.link.answer(message, reply, self.topic("reply"))

    async def _obey(self, command: Command) -> Reply:
        if not isinstance(command, Release | Offer | Adopt):
            return Reply(of=command.id)
        decided = self.decide(command)
        self.decisions.append(decided.does)
        if decided.does is Does.REFUSE:
            return Reply(of=command.id, ok=False, code=decided.code)
        assert decided.hold is not None
        self.disk.holds[command.session] = decided.hold
        data = await self._do(decided.does, command)
        return Reply(of=command.id, data=data)

    def decide(self, command: Release | Offer | Adopt) -> Decision:
        hold, here = self.disk.holds.get(command.session), self.disk.session == command.session
        if isinstance(command, Release):
            return on_release(hold, command, here=here)
        if isinstance(command, Offer):
            return on_offer(hold, command, hindrance=self.hindrance)
        return on_adopt(hold, command, here=here)

    async def _do(self, does: Does, command: Release | Offer | Adopt) -> dict[str, object]:
        session = command.session
        if does in (Does.LET_GO, Does.SAME_BUNDLE):
            if does is Does.LET_GO:
                self.disk.bundles[session] = self._bundle(session)
                self.disk.session = None if self.disk.session == session else self.disk.session
                await self.tell(session=self.disk.session, epoch=0)
            return {"bundle": self.disk.bundles[session].model_dump(mode="json")}
        if isinstance(command, Offer):
            if does is Does.KEEP:
                self.disk.bundles[session] = command.bundle
            return {}
        assert isinstance(command, Adopt)
        await self._adopt(does, command)
        return {}

    async def _adopt(self, does: Does, adopt: Adopt) -> None:
        self.confirmed.add(adopt.session)
        if does is Does.CONFIRM and self.disk.session is not None:
            return
        bundle = adopt.bundle or self.disk.bundles.get(adopt.session)
        if bundle is not None:
            self.disk.messages[adopt.session] = list(bundle.messages)
        self.disk.session = adopt.session
        if adopt.why:
            self.said.append(adopt.why)
        if adopt.speaks and bundle is not None and bundle.rest is not None:
            self.said.append(bundle.rest.text)
        await self.tell(session=adopt.session, epoch=adopt.epoch)

    def _bundle(self, session: str) -> Bundle:
        return Bundle(
            session=Session(id=session, room=self.room, persona="companion"),
            persona="companion",
            messages=tuple(self.disk.messages.get(session, ())),
            rest=self.disk.rests.get(session),
        )


@asynccontextmanager
async def hub_room(hub: Hub, id_: str, disk: Disk | None = None, room: str | None = None) -> AsyncIterator[HubRoom]:
    """Let a room be there, with its disk from an earlier life; it is connected when this yields."""
    made = HubRoom(hub, id_, disk if disk is not None else Disk(), room or id_)
    async with beside(made.link.run(), id_):
        await until(lambda: made.link.up, f"{id_} is connected: {made.link.health}")
        session = made.disk.session
        hold = made.disk.holds.get(session or "")
        await made.tell(session=session, epoch=hold.epoch if hold else 0)
        yield made
