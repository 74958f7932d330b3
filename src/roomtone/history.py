"""What was said lately, as the daemon tells it to an asker and a command to a person."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from roomtone.core.dialog import Message, Role
from roomtone.core.errors import SessionNotFound, UsageError
from roomtone.store import Node, Store

LARGEST = 1000
"""Turns or sessions shown at once."""

SHOWN = 8
"""Characters of an id that are shown to a person; as many are understood."""

Erase = Callable[[datetime | None], Awaitable[int]]
Reply = AsyncIterator[dict[str, Any]]

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_LENGTH = re.compile(r"(?:\d+[wdhms])+")
_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})")


async def answer(request: Mapping[str, Any], store: Store, erase: Erase | None = None) -> Reply:
    """Answer the request ``history`` on a store, the oldest first; ``erase`` does so for who holds the store open.

    An event each: ``{"turn"}``, and of one session ``{"move"}`` for each time it went to another room;
    with ``sessions`` ``{"session", "turns", "last_at"}``; with ``turn``, a number,
    that turn and ``{"message"}``; with ``node``, a message's id, ``{"path"}`` and ``{"node"}``.
    Raises UsageError for a wrong request, SessionNotFound for an id that nothing has.
    """
    if request.get("erase") is True:
        yield {"result": await (erase or store.erase)(_since(request))}
        return
    count = 0
    async for event in _shown(request, store):
        count += 1
        yield event
    yield {"result": count}


def _shown(request: Mapping[str, Any], store: Store) -> Reply:
    limit, session = request.get("limit", 20), request.get("session")
    if not isinstance(limit, int) or not 1 <= limit <= LARGEST:
        raise UsageError(f"limit: choose a number from 1 to {LARGEST}")
    if request.get("node") is not None:
        return _node(str(request["node"]), store)
    if request.get("turn") is not None:
        return _turn(request["turn"], session, store)
    if request.get("sessions") is True:
        return _sessions(limit, store)
    return _turns(limit, session, store)


async def _turns(limit: int, session: Any, store: Store) -> Reply:
    id_ = None if session is None else (await store.session(str(session))).id
    for turn in await store.history(limit, id_):
        yield {"turn": turn.model_dump(mode="json")}
    for move in await store.read("SELECT * FROM moves WHERE session = ? ORDER BY epoch", id_):
        yield {"move": dict(move)}


async def _sessions(limit: int, store: Store) -> Reply:
    for session in await store.sessions(limit):
        standing = await store.standing(session)
        where = {"turns": standing.turns, "last_at": standing.last_at.isoformat()}
        yield {"session": session.model_dump(mode="json"), **where}


async def _turn(number: Any, session: Any, store: Store) -> Reply:
    sessions = await store.sessions(1) if session is None else [await store.session(str(session))]
    found = [turn for one in sessions for turn in await store.history(1, one.id, number)]
    if not found:
        raise SessionNotFound(f"there is no turn {number} in that session; see: roomtone history", turn=number)
    yield {"turn": found[0].model_dump(mode="json")}
    for message in await store.messages(found[0].session, found[0].trace):
        yield {"message": message.model_dump(mode="json")}


async def _node(id_: str, store: Store) -> Reply:
    node = await store.node(id_)
    path = await store.ancestry(node.message.id)
    for message in path:
        yield {"path": message.model_dump(mode="json")}
    yield {
        "node": node.message.model_dump(mode="json"),
        "parents": node.parents,
        "children": node.children,
        "status": status(node),
        "summary": summary(node, path),
    }


def status(node: Node) -> str:
    """Return how a step or a message's turn ended; ``running`` where it has not, ``kept`` where there is none."""
    if "step" in node.message.data:
        return str(node.message.data.get("status"))
    if node.turn is None:
        return "kept"
    return str(node.turn.ended) if node.closed else "running"


def summary(node: Node, path: list[Message]) -> str:
    """Say in one line what a message is in the conversation; ``path`` is all it follows from, and itself."""
    message, turn, session = node.message, node.turn, node.session
    what = "What was said" if message.role is Role.PERSON else "What Roomtone said"
    if "step" in message.data:
        what = f"Step {message.data['step']} of the routine {message.data.get('routine')}"
    parts = [f"{what} in turn {turn.turn}" if turn else what, f"of session {message.session[:SHOWN]}"]
    if session is not None:
        parts.append(f"({session.room}, {session.persona})")
    how = [status(node)]
    if error := message.data.get("error"):
        how[0] += f" ({error})"
    if turn is not None and "step" not in message.data:
        how.append(f"answered by {turn.intent or turn.answered_by}")
    how.append(f"{len(path) - 1} before it")
    how.append(f"{len(node.children)} right behind it" if node.children else "nothing behind it")
    return f"{' '.join(parts)}: {', '.join(how)}."


def _since(request: Mapping[str, Any]) -> datetime | None:
    since = request.get("since")
    if since is None:
        return None
    try:
        return datetime.fromisoformat(str(since)).astimezone(UTC)
    except (ValueError, OverflowError):  # the first of all days is out of range in UTC
        raise UsageError("since: give a time as in 2026-11-21T18:00:00+01:00") from None


def moment(text: str, now: datetime) -> datetime:
    """Return the moment a person means: so long ago (``90m``, ``1h30m``, ``2d``), a time (``18:00``) or a date.

    ``now`` carries the zone that the text is in. Raises UsageError for what is no time, or not past yet.
    """
    if _LENGTH.fullmatch(text):
        units = {_UNITS[unit]: int(number) for number, unit in re.findall(r"(\d+)([wdhms])", text)}
        try:
            return now - timedelta(**units)
        except OverflowError:
            raise UsageError(f"{text}: that is before all time; leave --since out to erase everything") from None
    found = _of_day(text, now) or _dated(text, now.tzinfo)
    if found is None:
        raise UsageError(f"{text}: write how long ago, as in 90m or 2d, or since when, as in 18:00 or 2026-11-21")
    if found > now:
        raise UsageError(f"{text}: that is still to come; nothing was said since")
    return found


def _of_day(text: str, now: datetime) -> datetime | None:
    found = _OF_DAY.fullmatch(text)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        return None
    today = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def _dated(text: str, zone: tzinfo | None) -> datetime | None:
    try:
        dated = datetime.fromisoformat(text)
    except ValueError:
        return None
    return dated if dated.tzinfo is not None else dated.replace(tzinfo=zone)
