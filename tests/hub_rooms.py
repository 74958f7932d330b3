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
    HandOff,
    LetGo,
    Move,
    Offer,
    Presence,
    Release,
    Reply,
    Request,
    Rest,
    State,
    Topics,
    read,
)
from roomtone.flow import beside
from roomtone.link import Inbound, Link
from roomtone.settings import Hub

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
    """What a device has written down: the sessions that it began, its holds, what was let go of or offered.

    ``present`` is the session that it is in.
    """

    present: str | None = None
    begun: set[str] = field(default_factory=set)
    holds: dict[str, Hold] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    messages: dict[str, list[Message]] = field(default_factory=dict)
    rests: dict[str, Rest | None] = field(default_factory=dict)


class Mover:
    """What a device does at the commands of a handoff. ``hindrance`` is why it takes nothing up; ``said``: aloud."""

    def __init__(self, disk: Disk, room: str) -> None:
        self.disk = disk
        self.room = room
        self.hindrance = ""
        self.said: list[str] = []
        self.confirmed: set[str] = set()

    def begin(self, *texts: str, rest: str = "") -> str:
        """Begin a session in which ``texts`` were said, and of whose answer ``rest`` was not."""
        session = self.disk.present = new_id()
        self.disk.begun.add(session)
        for text in texts:
            self.hear(session, text)
        self.disk.rests[session] = Rest(trace="t", text=rest) if rest else None
        return session

    def hear(self, session: str, text: str) -> None:
        message = Message(session=session, role=Role.PERSON, text=text, persona="companion")
        self.disk.messages.setdefault(session, []).append(message)

    def has(self, session: str) -> bool:
        """Say whether this device is the one that acts for a session, as far as its disk tells."""
        hold = self.disk.holds.get(session)
        return session in self.disk.begun if hold is None else hold.standing is Standing.HELD

    def epoch(self, session: str | None) -> int:
        hold = self.disk.holds.get(session or "")
        return hold.epoch if hold else 0

    def released(self) -> tuple[LetGo, ...]:
        """Return what this device let go of, and for whom."""
        gone = [hold for hold in self.disk.holds.values() if hold.standing is Standing.RELEASED]
        whom = {id_: bundle.moves[-1].target for id_, bundle in self.disk.bundles.items() if bundle.moves}
        return tuple(
            LetGo(session=hold.session, epoch=hold.epoch, target=whom[hold.session], handoff=hold.handoff)
            for hold in gone
        )

    def obey(self, command: Release | Offer | Adopt) -> Reply:
        """Do what a command says, written down before it is answered."""
        decided = self._decide(command)
        if decided.does is Does.REFUSE:
            return Reply(of=command.id, ok=False, code=decided.code)
        assert decided.hold is not None
        self.disk.holds[command.session] = decided.hold
        if isinstance(command, Release):
            return Reply(of=command.id, data={"bundle": self._release(decided.does, command)})
        if isinstance(command, Offer) and decided.does is Does.KEEP:
            self.disk.bundles[command.session] = command.bundle
        if isinstance(command, Adopt):
            self._adopt(decided.does, command)
        return Reply(of=command.id)

    def _decide(self, command: Release | Offer | Adopt) -> Decision:
        hold, here = self.disk.holds.get(command.session), command.session in self.disk.begun
        if isinstance(command, Release):
            return on_release(hold, command, here=here)
        if isinstance(command, Offer):
            return on_offer(hold, command, hindrance=self.hindrance)
        return on_adopt(hold, command, here=here)

    def _release(self, does: Does, release: Release) -> object:
        session = release.session
        if does is Does.LET_GO:
            self.disk.bundles[session] = Bundle(
                session=Session(id=session, room=self.room, persona="companion"),
                persona="companion",
                messages=tuple(self.disk.messages.get(session, ())),
                rest=self.disk.rests.get(session),
                moves=(Move(source=self.room, target=release.target, epoch=release.epoch + 1),),
            )
            self.disk.present = None if self.disk.present == session else self.disk.present
        return self.disk.bundles[session].model_dump(mode="json")

    def _adopt(self, does: Does, adopt: Adopt) -> None:
        self.confirmed.add(adopt.session)
        if adopt.why:
            self.said.append(adopt.why)
        if does is Does.CONFIRM:
            return
        bundle = adopt.bundle or self.disk.bundles[adopt.session]
        self.disk.messages[adopt.session] = list(bundle.messages)
        self.disk.rests[adopt.session] = None
        self.disk.present = adopt.session
        if adopt.speaks and bundle.rest is not None:
            self.said.append(bundle.rest.text)


class HubRoom(Mover):
    """A device at a broker. What it is told to do of ``deaf_to`` never reaches it."""

    def __init__(self, hub: Hub, id_: str, disk: Disk, room: str) -> None:
        super().__init__(disk, room)
        self.id = id_
        self.deaf_to: set[str] = set()
        self.told: list[Command] = []
        self.state = State()
        self.capabilities: tuple[str, ...] = ("handoff", "announce", "timers")
        self.instance = new_id()
        self.link = Link(hub, id_, self.presence, Topics(hub.home).device(id_, "presence"))
        self.link.on(self.topic("command"), self._command)

    def topic(self, what: str) -> str:
        return self.link.topics.device(self.id, what)

    def presence(self) -> Presence:
        return Presence(
            id=self.id, online=True, instance=self.instance, room=self.room, capabilities=self.capabilities
        )

    async def tell(self, **changes: object) -> None:
        """Change the state and publish it."""
        session = self.disk.present
        whose = {"session": session, "epoch": self.epoch(session), "released": self.released()}
        self.state = self.state.model_copy(update={**whose, **changes})
        await self.link.publish(self.topic("state"), self.state, retain=True)

    async def talk(self, *texts: str, rest: str = "") -> str:
        """Have a conversation here, of which ``rest`` is still to be said; return its session."""
        session = self.begin(*texts, rest=rest)
        await self.tell(idle_s=0.0)
        return session

    async def ask(self, request: Request) -> Reply:
        return await self.link.ask(
            self.topic("request"), request, response_topic=self.topic("reply"), within_s=PATIENCE_S
        )

    async def hand_off(self, to: str) -> Reply:
        return await self.ask(HandOff(to=to, session=self.disk.present, epoch=self.epoch(self.disk.present)))

    async def _command(self, message: Inbound) -> None:
        command = read(COMMAND, message.payload)
        if command.do in self.deaf_to:
            return
        self.told.append(command)
        walks = isinstance(command, Release | Offer | Adopt)
        reply = self.obey(command) if isinstance(command, Release | Offer | Adopt) else Reply(of=command.id)
        if walks:
            await self.tell()
        await self.link.answer(message, reply, self.topic("reply"))


@asynccontextmanager
async def hub_room(hub: Hub, id_: str, disk: Disk | None = None, room: str | None = None) -> AsyncIterator[HubRoom]:
    """Let a room be there, with its disk from an earlier life; it is connected when this yields."""
    made = HubRoom(hub, id_, disk if disk is not None else Disk(), room or id_)
    async with beside(made.link.run(), id_):
        await until(lambda: made.link.up, f"{id_} is connected: {made.link.health}")
        await made.tell()
        yield made
