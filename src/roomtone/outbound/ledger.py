"""Rows that are written a little after they were noted, several in one commit: no answer waits for them."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from roomtone.core.errors import StoreError, UsageError
from roomtone.database import Statement
from roomtone.store import Store

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""What one turn notes comes together within this, and costs the disk one commit."""

OWED = 1000
"""Rows kept in memory while the disk refuses them."""


class Ledger:
    """Takes rows at once and writes them behind, while ``run`` runs. Idle time writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owed: deque[Statement] = deque(maxlen=OWED)
        self._news = asyncio.Event()

    def add(self, statement: Statement) -> None:
        """Note a row to be written; never waits and never fails."""
        self._owed.append(statement)
        self._news.set()

    async def run(self) -> None:
        """Write what is noted until cancelled, then what is left."""
        try:
            while True:
                await self._news.wait()
                await asyncio.sleep(SETTLE_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted so far; what the disk refuses is written with what comes next."""
        try:
            await self._write()
        except StoreError as error:
            log.error("what was sent and spent is not kept yet: %s", error.message)

    async def _write(self) -> None:
        self._news.clear()
        rows = list(self._owed)
        self._owed.clear()
        if not rows:
            return
        try:
            await self._keep(rows)
        except StoreError:
            self._owed = deque([*rows, *self._owed], maxlen=OWED)
            raise

    async def _keep(self, rows: list[Statement]) -> None:
        """Write rows in one commit; where one holds what can be written nowhere, the others one by one."""
        try:
            await self._store.write(*rows)
        except (OverflowError, ValueError):
            if len(rows) == 1:
                log.exception("this row cannot be kept: %r", rows[0])
                return
            for row in rows:
                await self._keep([row])

    async def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows that a query finds, among them all that were noted.

        Raises StoreError, also where some are not written yet: a receipt that leaves out calls is none.
        """
        await self._write()
        return await self._store.read(query, *values)


def asked_since(request: Mapping[str, Any]) -> datetime:
    """Return the moment from which on a request wants rows (ISO 8601). Raises UsageError where it names none."""
    try:
        return datetime.fromisoformat(str(request.get("since"))).astimezone(UTC)
    except (ValueError, OverflowError):  # the first of all days is out of range in UTC
        raise UsageError("since: give a time as in 2026-11-21T18:00:00+01:00") from None
