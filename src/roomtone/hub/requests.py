"""What devices ask of the hub, and what it answers. Each request is done once, however often it comes."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from roomtone.clock import elapsed, utc_now
from roomtone.core.dialog import Timer
from roomtone.core.errors import (
    DeviceNotFound,
    DeviceOffline,
    EngineUnavailable,
    HandoffRefused,
    HouseError,
    RegistrationError,
    SessionNotFound,
)
from roomtone.core.handoff import Handoff
from roomtone.core.wire import (
    Announce,
    CancelTimers,
    Code,
    Command,
    Follow,
    HandOff,
    HouseTimers,
    Renew,
    Reply,
    Request,
    Ringing,
    Ringings,
    Rooms,
    SetTimers,
    Standing,
    Where,
)
from roomtone.hub import sessions
from roomtone.hub.database import HubDatabase
from roomtone.hub.handoffs import Handoffs, expected_at, under_way
from roomtone.hub.registry import Device, Registry

KEPT = timedelta(hours=1)
"""A request that comes again within this gets the reply that it had."""

BUSY = ("thinking", "speaking", "interrupt")
RESTING = ("idle", "listening")

OPERATOR = "hub"
"""Who asks where it is not a device: whoever sits at the hub."""


def _none(id_: str, _: bytes) -> bytes:
    raise RegistrationError(f"this hub signs no certificates; renew that of {id_} where it was made")


class Announcer(Protocol):
    """Brings words to other rooms."""

    async def announce(self, request: Announce, sender: str | None = None) -> Reply:
        """Say or carry a message for a device, or for the house (None); tell where it was said."""


Renewing = Callable[[str, bytes], bytes]
"""Makes a device's certificate (PEM) anew, by its id and request (CSR, PEM). Raises RegistrationError."""

Ask = Callable[[str, Command], Awaitable[Reply]]
"""Sends a command to a device and waits for its reply. Raises HouseError."""


class Requests:
    """Answers what a device, or the operator, asks."""

    def __init__(
        self,
        database: HubDatabase,
        registry: Registry,
        handoffs: Handoffs,
        announcer: Announcer,
        ask: Ask,
        renew: Renewing = _none,
    ) -> None:
        self._renew = renew
        self._database = database
        self._registry = registry
        self._handoffs = handoffs
        self._announcer = announcer
        self._ask = ask
        self._doing: set[tuple[str, str]] = set()

    async def answer(self, request: Request, asking: str) -> Reply | None:
        """Do what is asked and return the reply; None for what is being done already, and will get its reply.

        ``asking`` is the device's id, as the broker vouches for it, or ``OPERATOR``.
        """
        if isinstance(request, Where):
            return self._where(request, asking)
        if isinstance(request, HouseTimers):
            return self._timers(request, asking)
        key = (asking, request.id)
        if key in self._doing:
            return None
        self._doing.add(key)
        try:
            return await self._once(request, asking)
        finally:
            self._doing.remove(key)

    async def _once(self, request: Request, asking: str) -> Reply:
        known = await self._database.read(lambda db: _asked_before(db, asking, request.id))
        if known is not None:
            return Reply.model_validate_json(known)
        try:
            reply = await self._do(request, asking)
        except (HouseError, SessionNotFound) as error:
            reply = Reply(of=request.id, ok=False, code=error.reason, message=error.message)
        at, text = utc_now(), reply.model_dump_json()
        row, oldest = (asking, request.id, at.isoformat(), text), (at - KEPT).isoformat()
        await self._database.do(lambda db: _answered(db, row, oldest))
        return reply

    async def _do(self, request: Request, asking: str) -> Reply:
        if asking != OPERATOR and self._registry.get(asking) is None:
            raise RegistrationError(f"{asking} is no device of this house; let it join: roomtone hub enroll")
        if isinstance(request, HandOff):
            return await self._hand_off(request, asking)
        if isinstance(request, Follow):
            return await self._follow(request, asking)
        if isinstance(request, Announce):
            return await self._announcer.announce(request, None if asking == OPERATOR else asking)
        if isinstance(request, CancelTimers):
            return await self._cancel(request, asking)
        if isinstance(request, Renew):
            return Reply(of=request.id, data={"cert": self._renew(asking, request.csr.encode()).decode()})
        raise AssertionError(request)  # the others change nothing and were answered before

    # ---------------------------------------------------------------------------------------- handoffs

    async def _hand_off(self, request: HandOff, asking: str) -> Reply:
        if asking == OPERATOR and request.source is None:
            raise DeviceNotFound("say whose conversation is to move: roomtone hub handoff FROM TO")
        source = self._registry.find(request.source or asking) if asking == OPERATOR else self._known(asking)
        target = self._registry.find(request.to)
        _can_take(target, source, following=False)
        session = request.session or source.state.session
        epoch = max(request.epoch, source.state.epoch if source.state.session == session else 0)
        return await self._begin(request.id, asking, source, target, session, epoch, following=False)

    async def _follow(self, request: Follow, asking: str) -> Reply:
        target, at = self._known(asking), elapsed()
        left = [(one.idle_s(at), one) for one in self._registry.all() if one.id != asking and _was_left(one)]
        recent = [(idle, one.id, one) for idle, one in left if idle is not None and idle <= request.within_s]
        if not recent:
            raise SessionNotFound(f"nobody spoke in another room within the last {request.within_s:.0f} seconds")
        _, _, source = min(recent, key=lambda one: one[:2])
        _can_take(target, source, following=True)
        return await self._begin(
            request.id, asking, source, target, source.state.session, source.state.epoch, following=True
        )

    async def _begin(
        self,
        of: str,
        asking: str,
        source: Device,
        target: Device,
        session: str | None,
        epoch: int,
        *,
        following: bool,
    ) -> Reply:
        if session is None:
            raise SessionNotFound(f"there is no conversation in the {source.room} that could move")
        if source.online is not True:
            raise DeviceOffline(f"the {source.room} is off, or out of reach")
        moving = Handoff(
            id=_derived(asking, of), session=session, source=source.id, target=target.id, target_room=target.room,
            epoch=epoch, following=following,
        )  # fmt: skip
        refusal = await self._handoffs.begin(moving, lambda db: _refusal(db, of, moving))
        if refusal is not None:
            return refusal
        return Reply(of=of, data={"handoff": moving.id, "device": target.id, "room": target.room})

    def _known(self, id_: str) -> Device:
        device = self._registry.get(id_)
        if device is None:
            raise DeviceNotFound(f"there is no device called {id_}; see: roomtone hub devices", name=id_)
        return device

    # ------------------------------------------------------------------------------------------- rooms

    def _where(self, request: Where, asking: str) -> Reply:
        at = elapsed()
        rooms = tuple(standing(one, at) for one in self._registry.all() if one.id != asking)
        return Reply(of=request.id, data=Rooms(rooms=rooms).model_dump(mode="json"))

    def _timers(self, request: HouseTimers, asking: str) -> Reply:
        at = elapsed()
        ringing = [one for device in self._registry.all() if device.id != asking for one in _ringing(device, at)]
        ringing.sort(key=lambda one: one.left_s)
        return Reply(of=request.id, data=Ringings(timers=tuple(ringing)).model_dump(mode="json"))

    async def _cancel(self, request: CancelTimers, asking: str) -> Reply:
        wanted, done = set(request.timers), 0
        for device in self._registry.all():
            here = tuple(timer.id for timer in device.state.timers if timer.id in wanted)
            if not here or device.id == asking:
                continue
            if not device.online:
                raise DeviceOffline(f"the {device.room} is off, or out of reach: its timer will ring")
            reply = await self._ask(device.id, SetTimers(id=_derived(asking, request.id, device.id), cancel=here))
            if not reply.ok:
                return reply.model_copy(update={"of": request.id})
            done += len(here)
        return Reply(of=request.id, data={"cancelled": done})


def _can_take(target: Device, source: Device, *, following: bool) -> None:
    """Raise why a device cannot take up a conversation now, as far as it is known here; it may refuse itself too."""
    room = target.room
    if target.id == source.id:
        raise HandoffRefused(f"the conversation is in the {room} already", why=Code.ITSELF)
    if target.online is not True:
        raise DeviceOffline(f"the {room} is off, or out of reach")
    if target.newer:
        raise HandoffRefused(f"the {room} has a newer Roomtone than the hub; upgrade the hub", why=Code.VERSION)
    if "handoff" not in target.presence.capabilities:
        raise HandoffRefused(f"the {room} cannot take up a conversation; upgrade it")
    if target.state.muted and not following:
        raise HandoffRefused(f"the microphone in the {room} is off", why=Code.MUTED)
    if not target.state.serves:
        raise HandoffRefused(
            f"the {room} cannot hear or speak now; run there: roomtone doctor", why=EngineUnavailable.code
        )
    if target.state.state in BUSY and not following:
        raise HandoffRefused(f"somebody is being answered in the {room}", why=Code.BUSY)


def _was_left(device: Device) -> bool:
    """Say whether a room has a conversation in which nobody is being answered now."""
    return device.online is True and device.state.session is not None and device.state.state in RESTING


def _refusal(db: sqlite3.Connection, of: str, moving: Handoff) -> Reply | None:
    """Return why a handoff cannot begin, by what is written down; None where it can."""
    owned = sessions.owned(db, moving.session)
    if owned is not None and owned.owner != moving.source and owned.epoch >= moving.epoch:
        return Reply(of=of, ok=False, code=Code.NOT_HERE, message="this conversation goes on in another room already")
    if under_way(db, moving.session) or expected_at(db, moving.target):
        return Reply(of=of, ok=False, code=Code.BUSY, message="another conversation is just being moved")
    return None


def standing(device: Device, at: float) -> Standing:
    """Return how a room stands, at the hub's seconds ``at``."""
    state = device.state
    return Standing(
        id=device.id,
        room=device.room,
        name=device.presence.name,
        online=device.online is True,
        state=state.state if device.online else "",
        persona=state.persona,
        idle_s=device.idle_s(at),
        muted=state.muted,
        quiet=state.quiet,
    )


def _ringing(device: Device, at: float) -> list[Ringing]:
    rings = []
    for timer in device.state.timers:
        left = _left(timer, device, at)
        if left > 0 or timer.missed:
            rings.append(Ringing(device=device.id, room=device.room, timer=timer, left_s=left))
    return rings


def _left(timer: Timer, device: Device, at: float) -> float:
    """Return the seconds until a timer is due, by the clock of its own device, which is the one that rings."""
    if timer.paused_s is not None:
        return float(timer.paused_s)
    return (timer.due - device.state.at).total_seconds() - (at - device.state_at)


def _asked_before(db: sqlite3.Connection, device: str, id_: str) -> str | None:
    """Return the reply that a request had; None where it has not come, or was not done to its end."""
    row = db.execute("SELECT reply FROM asked WHERE device = ? AND id = ?", (device, id_)).fetchone()
    return None if row is None else str(row["reply"])


def _answered(db: sqlite3.Connection, row: tuple[str, str, str, str], oldest: str) -> None:
    db.execute("INSERT OR REPLACE INTO asked VALUES (?,?,?,?)", row)
    db.execute("DELETE FROM asked WHERE at < ?", (oldest,))


def _derived(asking: str, id_: str, what: str = "") -> str:
    """Return the id of what follows from a request: the same one, should it be done again after a power cut."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{asking}/{id_}/{what}").hex
