"""What the hub's control socket answers: devices, sessions, handoffs, announcements."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any

from roomtone.clock import elapsed
from roomtone.core.errors import (
    BrokerUnreachable,
    DeviceNotFound,
    DeviceOffline,
    EgressRefused,
    PersonaNotFound,
    SessionNotFound,
    UsageError,
)
from roomtone.core.handoff import Phase
from roomtone.core.wire import Announce, Code, HandOff, Reply, Request
from roomtone.hub import sessions
from roomtone.hub.database import HubDatabase
from roomtone.hub.registry import Admission, Device, Registry
from roomtone.hub.requests import OPERATOR, Requests, standing
from roomtone.link import Link

SHOWN = 50

OUTCOME_S = 6.0
"""So long it is waited for how a handoff ends: a room that does not answer has been given up by then."""

LOOK_S = 0.05

STAYS: dict[str, str] = {
    DeviceOffline.code: "one of the two rooms does not answer",
    Code.BUSY: "one of the two rooms is busy",
    Code.MUTED: "the microphone there is off",
    EgressRefused.code: "its persona keeps what is said in the room",
    PersonaNotFound.code: "its persona is not known there",
    Code.VERSION: "the two rooms have different versions",
}
"""Why a conversation is where it was, by the code."""

Answer = AsyncIterator[dict[str, Any]]


class Answers:
    """Answers one request at a time: events, and one result."""

    def __init__(self, database: HubDatabase, registry: Registry, requests: Requests, link: Link) -> None:
        self._database = database
        self._registry = registry
        self._requests = requests
        self._link = link

    def answer(self, request: dict[str, Any]) -> Answer:
        """Return the events and the result of a request. Raises UsageError for a command there is not."""
        commands: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "devices": self._devices,
            "sessions": self._sessions,
            "where": self._where,
            "handoff": self._handoff,
            "announce": self._announce,
            "retire": self._retire,
            "status": self._status,
        }
        command = str(request["command"])
        if command not in commands:
            raise UsageError(f"the hub has no command '{command}'; choose one of {', '.join(sorted(commands))}")
        return commands[command](request)

    async def _devices(self, _: dict[str, Any]) -> Answer:
        at = elapsed()
        for device in self._registry.everybody():
            yield {"device": described(device, at)}
        yield self._told()

    async def _sessions(self, _: dict[str, Any]) -> Answer:
        for row in await self._database.read(_listed):
            yield {"session": row}
        known = await self._database.read(lambda db: {str(row["session"]) for row in sessions.listed(db, SHOWN)})
        for device in self._registry.all():
            if device.state.session is not None and device.state.session not in known:
                yield {"session": {"session": device.state.session, "owner": device.id, "epoch": device.state.epoch}}
        yield self._told()

    async def _where(self, _: dict[str, Any]) -> Answer:
        at = elapsed()
        for device in self._registry.all():
            yield {"room": standing(device, at).model_dump(mode="json")}
        yield self._told()

    def _told(self) -> dict[str, Any]:
        """Return the result of what lists things: whether the broker is there that tells the hub of them."""
        return {"result": {"link": self._link.health}}

    async def _handoff(self, request: dict[str, Any]) -> Answer:
        source, to, session = (_text(request, key) for key in ("from", "to", "session"))
        if not source or not to:
            raise UsageError("say from where and where to: roomtone hub handoff FROM TO")
        device = self._registry.find(source)
        meant = await self._meant(session) if session else None
        answer = await self._ask(HandOff(to=to, source=device.id, session=meant))
        yield await self._outcome(answer["result"], device.room) if "result" in answer else answer

    async def _meant(self, beginning: str) -> str:
        """Return the conversation whose id begins so, as ``sessions`` lists it. Raises SessionNotFound."""
        listed = await self._database.read(_listed)
        ids = {str(row["session"]) for row in listed} | {each.state.session or "" for each in self._registry.all()}
        found = [id_ for id_ in ids if id_.startswith(beginning)]
        if len(found) != 1:
            told = "more than one" if found else "no"
            raise SessionNotFound(f"{told} conversation begins with {beginning}; see: roomtone hub sessions")
        return found[0]

    async def _outcome(self, begun: dict[str, Any], room: str) -> dict[str, Any]:
        """Wait until a handoff that was begun is over, has come back, or takes too long; tell which."""
        phase, why = "", ""
        until = elapsed() + OUTCOME_S
        while elapsed() < until and phase != Phase.OVER and not why:
            await asyncio.sleep(LOOK_S)
            phase, why = await self._database.read(lambda db: _phase(db, begun["handoff"]))
        if why:
            told = STAYS.get(why, f"it could not go ({why})")
            message = f"the conversation stays in the {room}: {told}"
            return {"error": {"code": why, "message": message, "details": begun}}
        return {"result": {**begun, "phase": phase}}

    async def _announce(self, request: dict[str, Any]) -> Answer:
        text, room, persona = (_text(request, key) for key in ("text", "room", "persona"))
        if not text.strip():
            raise UsageError("there is no text; write it behind the command, in quotes")
        urgent = request.get("urgent") is True
        yield await self._ask(Announce(text=text, to=room, persona=persona or None, urgent=urgent, answers=False))

    async def _ask(self, request: Request) -> dict[str, Any]:
        self._check()
        reply = await self._requests.answer(request, OPERATOR)
        assert reply is not None  # its id was made just now
        return refused(reply) if not reply.ok else {"result": reply.data}

    def _check(self) -> None:
        """Raise BrokerUnreachable where no room can be reached now."""
        if not self._link.up:
            raise BrokerUnreachable(f"the hub has no broker now: {self._link.health}")

    async def _retire(self, request: dict[str, Any]) -> Answer:
        """Take a device out: its retained words go, so that nobody takes it for one that is only off."""
        id_ = _text(request, "device")
        device = self._registry.get(id_)
        if device is None and all(one.id != id_ for one in self._registry.everybody()):
            raise DeviceNotFound(f"there is no device called {id_}; see: roomtone hub devices", name=id_)
        if device is not None and device.online:
            raise UsageError(f"{id_} is running; stop it first, or shut it out: roomtone hub revoke {id_}")
        self._check()
        changed = await self._registry.admit(id_, Admission.RETIRED)
        for what in ("presence", "state"):
            await self._link.publish(self._link.topics.device(id_, what), b"", retain=True)
        yield {"device": described(changed, elapsed())}
        yield {"result": "done"}

    async def _status(self, _: dict[str, Any]) -> Answer:
        there = sum(1 for one in self._registry.all() if one.online)
        yield {"result": {"link": self._link.health, "devices": len(self._registry.all()), "online": there}}


def described(device: Device, at: float) -> dict[str, Any]:
    """Return a device as the command line prints it."""
    presence = device.presence
    return {
        **standing(device, at).model_dump(mode="json", exclude={"v"}),
        "version": presence.version,
        "capabilities": list(presence.capabilities),
        "admission": str(device.admission),
        "session": device.state.session,
        "epoch": device.state.epoch,
        "newer": device.newer,
        "seen": device.seen,
    }


def refused(reply: Reply) -> dict[str, Any]:
    """Return a refusal as the control socket tells of errors."""
    return {"error": {"code": reply.code, "message": reply.message, "details": reply.data}}


def _phase(db: sqlite3.Connection, handoff: str) -> tuple[str, str]:
    row = db.execute("SELECT phase, why FROM handoffs WHERE id = ?", (handoff,)).fetchone()
    return (str(row["phase"]), str(row["why"])) if row else (Phase.OVER, "")


def _listed(db: sqlite3.Connection) -> list[dict[str, object]]:
    return sessions.listed(db, SHOWN)


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key) or ""
    if not isinstance(value, str):
        raise UsageError(f"{key}: give a string")
    return value
