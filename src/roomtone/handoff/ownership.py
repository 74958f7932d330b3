"""Whose a conversation is, as this device knows it: the tables of what it holds, let go of or was offered.

A session that never left its room is nobody else's and stands in no table. All others have an epoch, and are gone on
with only while the hub's word for it holds (``core.handoff.may_act``): a room that was cut off, or was started again,
begins a conversation of its own instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from roomtone.clock import utc_now
from roomtone.core.errors import StoreError
from roomtone.core.handoff import LINK_LOST_S, Hold, Standing, may_act
from roomtone.core.wire import Bundle, LetGo, Move
from roomtone.database import Statement
from roomtone.store import Store, iso

log = logging.getLogger(__name__)

KEPT = timedelta(days=1)
"""So long a bundle lies here after the room let go of it, or was offered it; the hub has it too. What is older goes
at the next handoff, or the next start."""

TOLD = 10
"""Conversations that the house is told of that this room let go of, the last ones."""

_MOVE = ("source", "target", "epoch", "at", "why")


class Ownership:
    """How this device stands to sessions that were ever handed over.

    ``released``: what it let go of and still has the bundle of, the last first.
    """

    def __init__(self, store: Store) -> None:
        self.released: tuple[LetGo, ...] = ()
        self._store = store
        self._holds: dict[str, Hold] = {}
        self._confirmed: set[str] = set()
        self._lost_at: float | None = None
        self._read = False

    async def recall(self) -> None:
        """Read what is known, once. Raises StoreError."""
        if self._read:
            return
        for row in await self._store.read("SELECT session, epoch, standing, handoff FROM holds ORDER BY at"):
            hold = Hold(row["session"], row["epoch"], Standing(row["standing"]), row["handoff"] or "")
            self._holds.setdefault(hold.session, hold)
        self.released = await self._let_go()
        self._read = True
        await self._forget_old()

    async def _forget_old(self) -> None:
        try:
            old = await self._store.read("SELECT 1 FROM holds WHERE bundle IS NOT NULL AND at < ?", _oldest())
            if old:
                await self._store.write(_pruning())
        except StoreError as error:  # a full disk: what is known of conversations counts all the same
            log.warning("what went to other rooms a day ago is not forgotten yet: %s", error.message)

    def of(self, session: str) -> Hold | None:
        """Return how this device stands to a session; None for one that never left its room."""
        return self._holds.get(session)

    def acts(self, session: str) -> bool:
        """Say whether a session may be gone on with here and now."""
        return may_act(self.of(session), confirmed=session in self._confirmed, link_lost_s=self._lost_s())

    def waits(self, session: str) -> bool:
        """Say whether a session is gone on with here once the hub has said so."""
        hold = self.of(session)
        return hold is not None and hold.standing is Standing.HELD and not self.acts(session)

    def unconfirmed(self) -> Hold | None:
        """Return the session that this device took up last, where the hub has not said yet that it may go on."""
        held = [hold for hold in self._holds.values() if hold.standing is Standing.HELD]
        return held[-1] if held and held[-1].session not in self._confirmed else None

    async def gives_way(self, session: str) -> bool:
        """Say whether a session is this room's own and nobody spoke in it: what it says by itself begins one too.

        Raises StoreError.
        """
        return self.of(session) is None and not any(turn.heard for turn in await self._store.history(10, session))

    async def confirm(self, hold: Hold) -> None:
        """Note that the hub says so; nothing is written that stands there already. Raises StoreError."""
        known = self.of(hold.session)
        if known is None or (known.epoch, known.standing) != (hold.epoch, hold.standing):
            await self.write(hold, None)
        self._confirmed.add(hold.session)

    def link_changed(self, up: bool) -> None:
        """Note that the broker was reached, or lost; after a long while the hub may have decided otherwise."""
        if not up and self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
        elif up:
            if self._lost_s() > LINK_LOST_S:
                self._confirmed.clear()
            self._lost_at = None

    def _lost_s(self) -> float:
        return 0.0 if self._lost_at is None else asyncio.get_running_loop().time() - self._lost_at

    async def write(self, hold: Hold, bundle: Bundle | None, *statements: Statement) -> None:
        """Keep how this device stands to a session now, with what follows from that, in one commit.

        It has reached the disk when this returns; a ``hold`` that is HELD was the hub's word. Raises StoreError: all
        is as it was.
        """
        written = bundle.model_dump_json() if bundle is not None else None
        row = (hold.session, hold.epoch, hold.standing, hold.handoff, iso(utc_now()), written)
        kept: Statement = ("INSERT OR REPLACE INTO holds VALUES (?,?,?,?,?,?)", row)
        await self._store.write(kept, _pruning(), *statements, durable=True)
        self._holds.pop(hold.session, None)  # what was taken up last comes last
        self._holds[hold.session] = hold
        if hold.standing is Standing.HELD:
            self._confirmed.add(hold.session)
        self.released = tuple(one for one in self.released if one.session != hold.session)
        if hold.standing is Standing.RELEASED and bundle is not None and bundle.moves:
            to = bundle.moves[-1].target
            gone = LetGo(session=hold.session, epoch=hold.epoch, target=to, handoff=hold.handoff)
            self.released = (gone, *self.released)[:TOLD]

    async def _let_go(self) -> tuple[LetGo, ...]:
        rows = await self._store.read(
            "SELECT holds.session, holds.epoch, holds.handoff, moves.target FROM holds "
            "JOIN moves ON moves.session = holds.session AND moves.epoch = holds.epoch + 1 "
            "WHERE standing = ? AND bundle IS NOT NULL AND holds.at > ? "
            "ORDER BY holds.at DESC LIMIT ?",
            Standing.RELEASED,
            iso(utc_now() - KEPT),
            TOLD,
        )
        return tuple(LetGo.model_validate(dict(row)) for row in rows)

    async def bundle(self, session: str) -> tuple[Bundle, datetime] | None:
        """Return the bundle that was kept with a hold, and when that was; None where there is none any more.

        Raises StoreError.
        """
        rows = await self._store.read("SELECT bundle, at FROM holds WHERE session = ?", session)
        if not rows or rows[0]["bundle"] is None:
            return None
        return Bundle.model_validate_json(rows[0]["bundle"]), datetime.fromisoformat(rows[0]["at"])

    async def since(self, session: str) -> datetime | None:
        """Return when this device's standing to a session changed last. Raises StoreError."""
        rows = await self._store.read("SELECT at FROM holds WHERE session = ?", session)
        return datetime.fromisoformat(rows[0]["at"]) if rows else None

    async def moves(self, session: str) -> list[Move]:
        """Return the handoffs of a session, the oldest first. Raises StoreError."""
        rows = await self._store.read("SELECT * FROM moves WHERE session = ? ORDER BY epoch", session)
        return [Move.model_validate({key: row[key] for key in _MOVE}) for row in rows]


def _oldest() -> str | None:
    return iso(utc_now() - KEPT)


def _pruning() -> Statement:
    return "UPDATE holds SET bundle = NULL WHERE bundle IS NOT NULL AND at < ?", (_oldest(),)


def keeping_moves(session: str, moves: Sequence[Move]) -> list[Statement]:
    """Return the statements that keep handoffs of a session, to be committed with others."""
    rows: list[tuple[Any, ...]] = [
        (session, move.epoch, move.source, move.target, iso(move.at), move.why) for move in moves
    ]
    return [("INSERT OR IGNORE INTO moves VALUES (?,?,?,?,?,?)", row) for row in rows]
