"""The other rooms over the link: known by their presence, which needs no hub, and asked of the hub.

A room knows its neighbours' names after a restart without a broker too. Nothing here waits longer than a person does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.errors import (
    DeviceNotFound,
    DeviceOffline,
    HandoffRefused,
    HouseError,
    HubGone,
    PayloadError,
    StoreError,
)
from roomtone.core.wire import (
    Announce,
    Asked,
    CancelTimers,
    Code,
    Follow,
    HandOff,
    Heard,
    HouseTimers,
    Payload,
    Presence,
    Reply,
    Ringings,
    Rooms,
    Where,
    plain,
    read,
)
from roomtone.edges.mqtt import Identity
from roomtone.link import Inbound, Link
from roomtone.mind.house import Delivered, ElsewhereTimer, Neighbour
from roomtone.store import Store

log = logging.getLogger(__name__)

KEPT = "neighbours"
"""Under this the store keeps who the neighbours are."""

ASK_S = 2.0
"""So long somebody who has asked for something waits for the hub."""

ANNOUNCE_S = 3.0
"""So long the hub may take to have something said: it waits for a message's last piece, then for the rooms."""

TIMERS_S = 0.4
"""So long a list of timers waits for those of the other rooms: this room's own are known at once."""

HUB_OFF = "the hub is off; at the hub, run: sudo systemctl start roomtone-hub"

MOST = 200
"""Neighbours that are known at most."""

P = TypeVar("P", bound=Payload)


class Messages(Protocol):
    """What carries sound between rooms."""

    def record_for(self, to: Neighbour | None) -> None:
        """Carry what is said here next."""

    def answer_to(self) -> Neighbour | None:
        """Return who waits for an answer."""


class Neighbourhood:
    """Implements ``mind.house.House``."""

    def __init__(
        self, identity: Identity, link: Link, store: Store, standing: Callable[[], tuple[str | None, int]]
    ) -> None:
        self.messages: Messages | None = None
        self._hub: bool | None = None
        self._identity = identity
        self._link = link
        self._store = store
        self._standing = standing
        self._known: dict[str, Neighbour] = {}
        link.on(link.topics.device("+", "presence"), self._see)
        link.on(link.topics.hub("presence"), self._see_hub)

    # ------------------------------------------------------------------------------------- who there is

    @property
    def room(self) -> str:
        """What this room is called."""
        return self._identity.device.room

    @property
    def cut_off(self) -> bool:
        """Whether the broker cannot be reached now."""
        return not self._link.up

    def rooms(self) -> Sequence[Neighbour]:
        """List the other rooms that were ever heard of, those that are off too."""
        up = self._link.up
        return [each if up or not each.online else _off(each) for each in self._known.values()]

    def others_online(self) -> bool:
        """Say whether any other room can be reached."""
        return any(each.online for each in self.rooms())

    def find(self, spoken: str) -> Neighbour:
        """Return the room, or the device, that somebody means: of several in one room, one that is on.

        Raises DeviceNotFound; for this room itself with ``why`` SAME_DEVICE among its details.
        """
        found = matching(spoken, self.rooms())
        if not found and matching(spoken, [Neighbour(self._identity.id, self.room, self._identity.device.name)]):
            raise DeviceNotFound(f"this is {spoken}", spoken=spoken, why=Code.ITSELF)
        if not found:
            known = ", ".join(sorted({each.room for each in self.rooms()}))
            there = f"there are: {known}" if known else "no other room was heard of yet"
            raise DeviceNotFound(f"there is no room called {spoken}; {there}", spoken=spoken)
        fit = [each for each in found if each.online] or found
        if len({plain(each.room) for each in fit}) > 1:
            which = " or ".join(sorted({each.room for each in fit}))
            raise DeviceNotFound(f"{spoken} may be {which}; say which", spoken=spoken)
        return fit[0]

    @property
    def hub_online(self) -> bool:
        """What the hub's presence says."""
        return self._hub is True

    @property
    def health(self) -> str:
        """``ok``, or that the hub is off; a house without one is whole too."""
        return HUB_OFF if self._link.up and self._hub is False else "ok"

    async def recall(self) -> None:
        """Take up who the neighbours were when this room was last on; they are off until they are heard of."""
        try:
            kept = await self._store.kept(KEPT)
            known = [Neighbour(each["id"], each["room"], each["name"], online=False) for each in kept or ()]
        except (StoreError, LookupError, TypeError, ValueError) as error:
            log.error("the other rooms are not known until they are heard of: %s", error)
            return
        self._known = {each.id: each for each in known} | self._known

    async def _see(self, message: Inbound) -> None:
        id_ = self._link.topics.device_of(message.topic)
        if id_ is None or id_ == self._identity.id:
            return
        if not message.payload:  # it was retired: the broker keeps nothing of it any more
            if self._known.pop(id_, None) is not None:
                await self._keep()
            return
        presence = read(Presence, message.payload)
        if presence.id != id_:
            raise PayloadError(f"{id_} says that it is {presence.id}")
        before = self._known.get(id_)
        if before is None and len(self._known) >= MOST:
            raise PayloadError(f"there are more than {MOST} devices; {id_} is not taken in")
        room = presence.room or (before.room if before else id_)
        name = presence.name or (before.name if before else "")
        self._known[id_] = Neighbour(id_, room, name, online=presence.online)
        if before is None or (before.room, before.name) != (room, name):
            await self._keep()

    async def _see_hub(self, message: Inbound) -> None:
        self._hub = read(Presence, message.payload).online if message.payload else None

    async def _keep(self) -> None:
        kept = [{"id": each.id, "room": each.room, "name": each.name} for each in self._known.values()]
        try:
            await self._store.keep(KEPT, kept or None)
        except StoreError as error:
            log.error("the other rooms are not kept: %s", error.message)

    # -------------------------------------------------------------------------------------- what it asks

    async def hand_off(self, to: Neighbour, why: str = "") -> None:
        """Let this conversation go on in another room: returns once the hub has agreed, before it has moved.

        Raises HandoffRefused, DeviceOffline, HubGone: it goes on here.
        """
        session, epoch = self._standing()
        await self._ask(HandOff(to=to.id, session=session, epoch=epoch, why=why[:200]))

    async def follow(self, within_s: float) -> bool:
        """Bring the conversation that another room had a moment ago; say whether one comes. Never fails."""
        try:
            await self._ask(Follow(within_s=within_s))
        except HouseError as error:
            log.debug("nothing follows: %s", error.message)
            return False
        return True

    async def announce(self, text: str, to: Neighbour | None = None, *, urgent: bool = False) -> Delivered:
        """Say a text in another room, or in all others. Raises HouseError, EgressRefused."""
        outbound.leaving(self._link.host, len(text.encode()), "text", "announcement")
        return await self.deliver(Announce(text=text, to=to.id if to else "", urgent=urgent))

    async def deliver(self, request: Announce) -> Delivered:
        """Let the hub carry something to other rooms. Raises HouseError."""
        heard = _data(Heard, await self._ask(request, ANNOUNCE_S))
        return Delivered(heard.rooms, heard.missed)

    def record_for(self, to: Neighbour | None) -> None:
        """Carry what is said here next another room. Raises HubGone, HouseError."""
        self._check()
        if self.messages is None:
            raise HouseError("this room carries no messages")
        self.messages.record_for(to)

    def answer_to(self) -> Neighbour | None:
        """Return who is to get an answer; None where nobody waits for one."""
        return self.messages.answer_to() if self.messages is not None else None

    async def who_is_where(self) -> Sequence[Neighbour]:
        """List what goes on in the other rooms. Raises HouseError."""
        rooms = _data(Rooms, await self._ask(Where())).rooms
        others = (each for each in rooms if each.id != self._identity.id)
        return [Neighbour(**each.model_dump(exclude={"v"})) for each in others]

    async def timers(self) -> Sequence[ElsewhereTimer]:
        """List what is to ring in the other rooms, the next first; none where the hub is not there."""
        try:
            ringing = _data(Ringings, await self._ask(HouseTimers(), TIMERS_S)).timers
        except HouseError as error:
            log.info("what is to ring elsewhere is not known: %s", error.message)
            return []
        others = [each for each in ringing if each.device != self._identity.id]
        now = utc_now()
        return [
            ElsewhereTimer(each.room, each.timer.model_copy(update={"due": now + timedelta(seconds=each.left_s)}))
            for each in sorted(others, key=lambda each: each.left_s)
        ]

    async def cancel_timers(self, timers: Sequence[ElsewhereTimer]) -> None:
        """Cancel what is to ring in other rooms. Raises HouseError."""
        if timers:
            await self._ask(CancelTimers(timers=tuple(each.timer.id for each in timers)))

    def _check(self) -> None:
        if self._link.up and not self.hub_online:
            raise HubGone(HUB_OFF)

    async def _ask(self, request: Asked, within_s: float = ASK_S) -> Reply:
        """Ask the hub; raise what it refuses as the error that its code stands for."""
        self._check()
        topics, id_ = self._link.topics, self._identity.id
        reply = await self._link.ask(
            topics.device(id_, "request"), request, response_topic=topics.device(id_, "reply"), within_s=within_s
        )
        if not reply.ok:
            raise refusal(reply, handoff=isinstance(request, HandOff))
        return reply


# ------------------------------------------------------------------------------------------------ names


def matching(spoken: str, rooms: Sequence[Neighbour]) -> list[Neighbour]:
    """List who is meant, those that fit best: by room, else by name, else by id, else by how a room's name begins."""
    wanted = plain(spoken)
    if not wanted:
        return []
    ways: tuple[Callable[[Neighbour], bool], ...] = (
        lambda each: plain(each.room) == wanted,
        lambda each: plain(each.name) == wanted,
        lambda each: plain(each.id) == wanted,
        lambda each: _joined(each.room) == _joined(spoken),
        lambda each: plain(each.room).startswith(wanted),
        lambda each: wanted.split() == [word for word in plain(each.room).split() if word in wanted.split()],
    )
    for way in ways:
        found = [each for each in rooms if way(each)]
        if found:
            return found
    return []


def _joined(name: str) -> str:
    return plain(name).replace(" ", "")


def _off(neighbour: Neighbour) -> Neighbour:
    return Neighbour(neighbour.id, neighbour.room, neighbour.name, online=False)


# --------------------------------------------------------------------------------------------- refusals

_ERRORS: dict[str, type[HouseError]] = {
    kind.code: kind for kind in (DeviceNotFound, DeviceOffline, HubGone, HandoffRefused, PayloadError)
}


def refusal(reply: Reply, *, handoff: bool = False) -> HouseError:
    """Return a refusal as the error that its code stands for; its ``details["why"]`` is that code."""
    told = reply.message or f"the hub refused it ({reply.code})"
    kind = _ERRORS.get(reply.code, HandoffRefused if handoff else HouseError)
    return kind(told, why=reply.code)


def _data(kind: type[P], reply: Reply) -> P:
    """Return what a reply holds. Raises PayloadError."""
    try:
        return kind.model_validate(reply.data)
    except ValueError as error:
        raise PayloadError(f"the hub's answer cannot be read: {str(error).splitlines()[0]}") from None
