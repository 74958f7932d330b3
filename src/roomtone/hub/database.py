"""The hub's own SQLite file: devices, whose each session is, handoffs under way, and what was asked lately.

Several hub processes may have it open: whatever one decides, it decides and writes in one transaction that no other
can be in at the same time. Nothing is written for a device's state; what is lost with the file comes back from what
the broker keeps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from roomtone import database
from roomtone.flow import Worker, worker
from roomtone.migrations import Step, Steps

if TYPE_CHECKING:
    from sqlite_utils import Database

FILE_NAME = "hub.db"

T = TypeVar("T")


def _house(db: Database) -> None:
    """``handoffs.due`` are seconds of this machine since it was started; ``data`` is the record without its bundle.

    ``asked``: what a device asked under which id, and the reply, for as long as it might come a second time.
    """
    device = {"id": str, "room": str, "name": str, "version": str, "instance": str, "capabilities": str}
    db.table("devices").create({**device, "personas": str, "standing": str, "at": str, "seen": str}, pk="id")
    session = {"session": str, "owner": str, "epoch": int, "at": str, "handoff": str}
    db.table("sessions").create(session, pk="session", not_null={"owner", "epoch"})
    handoff = {"id": str, "session": str, "source": str, "target": str, "phase": str, "due": float, "at": str}
    db.table("handoffs").create({**handoff, "why": str, "data": str, "bundle": str}, pk="id")
    db.execute("CREATE INDEX handoffs_under_way ON handoffs (due) WHERE phase != 'over'")
    db.table("asked").create({"device": str, "id": str, "at": str, "reply": str}, pk=("device", "id"))


STEPS: Steps = (Step("0001 house", _house),)


class HubDatabase:
    """The open file. Every call raises StoreError, one line, where the disk fails."""

    def __init__(self, path: Path, thread: Worker) -> None:
        self.path = path
        self.mended: str | None = None
        self._thread = thread
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, a new one where it is damaged; ``mended`` says so."""

        def work() -> None:
            self._connection, self.mended = database.opened(self.path, STEPS)
            self._connection.execute("PRAGMA synchronous = FULL")

        await self._thread.call(database.speaking(work, self.path))

    async def close(self) -> None:
        """Close the file."""

        def work() -> None:
            if self._connection is not None:
                self._connection.close()

        await self._thread.call(work)

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` as one transaction, all or nothing, that no other process is in; it has reached the disk."""

        def whole() -> T:
            assert self._connection is not None
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise
            return result

        result: T = await self._thread.call(database.speaking(whole, self.path))
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work``, which only reads."""

        def reading() -> T:
            assert self._connection is not None
            return work(self._connection)

        result: T = await self._thread.call(database.speaking(reading, self.path))
        return result


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[HubDatabase]:
    """Open the hub's file, making it where there is none. Raises StoreError."""
    with worker("hub database") as thread:
        opened = HubDatabase(path, thread)
        try:
            await opened.open()
            yield opened
        finally:
            await opened.close()
