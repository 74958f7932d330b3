"""Whose each session is, of those that were ever handed over: owner and epoch. Called within a transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from roomtone.core.dialog import now

CONFIRMED = 5
"""Sessions of a device that it is told of when it comes back: the one it is in, and those of its other personas."""


KEPT = 1000
"""Sessions that are known at most, those that moved last: a room tells the epoch of the one that it is in."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A session, the device that acts for it, the epoch under which it does, and by which handoff."""

    session: str
    owner: str
    epoch: int
    handoff: str = ""


def owned(db: sqlite3.Connection, session: str) -> Owned | None:
    """Return whose a session is; None for one that was never handed over."""
    row = db.execute("SELECT session, owner, epoch, handoff FROM sessions WHERE session = ?", (session,)).fetchone()
    return Owned(**dict(row)) if row else None


def own(db: sqlite3.Connection, session: str, owner: str, epoch: int, handoff: str) -> None:
    """Write down whose a session is; an epoch that is not newer changes nothing."""
    db.execute(
        "INSERT INTO sessions VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET owner = excluded.owner, "
        "epoch = excluded.epoch, at = excluded.at, handoff = excluded.handoff WHERE excluded.epoch > epoch",
        (session, owner, epoch, now().isoformat(), handoff),
    )
    db.execute(
        "DELETE FROM sessions WHERE session IN (SELECT session FROM sessions ORDER BY at DESC LIMIT -1 OFFSET ?)",
        (KEPT,),
    )


def of_device(db: sqlite3.Connection, device: str) -> list[Owned]:
    """List the sessions of a device, the last moved first, at most ``CONFIRMED``."""
    where = "owner = ? AND epoch > 0 ORDER BY at DESC LIMIT ?"
    columns = "session, owner, epoch, handoff"
    rows = db.execute(f"SELECT {columns} FROM sessions WHERE {where}", (device, CONFIRMED))
    return [Owned(**dict(row)) for row in rows]


def listed(db: sqlite3.Connection, limit: int) -> list[dict[str, object]]:
    """List the sessions that were ever handed over, the last moved first, each with the handoff it last had."""
    query = (
        "SELECT sessions.session, owner, epoch, sessions.at, source, target, phase, why FROM sessions "
        "LEFT JOIN handoffs ON handoffs.id = sessions.handoff ORDER BY sessions.at DESC LIMIT ?"
    )
    return [dict(row) for row in db.execute(query, (limit,))]
