"""What must arrive, kept on the disk until the broker has it: in order, once, and no longer than it is of use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from roomtone.clock import utc_now
from roomtone.database import Statement
from roomtone.store import Store, iso

log = logging.getLogger(__name__)

MOST = 1000
"""Messages kept at most, which is more than a room has to tell in a day without its hub: the oldest go."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits: its number in the order, its topic and payload, and how many seconds it is still of use.

    ``expires_s`` None: for ever.
    """

    number: int
    topic: str
    payload: bytes
    expires_s: int | None


class Outbox:
    """The table of what is still to be sent. Every method raises StoreError where the disk fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, id_: str, topic: str, payload: bytes, expires_s: int | None = None) -> None:
        """Keep a message behind the others, durably; one whose id waits already is that one."""
        at = utc_now()
        expires = iso(at + timedelta(seconds=expires_s)) if expires_s is not None else None
        row = (id_, iso(at), expires, topic, payload.decode())
        insert = "INSERT INTO outbox (id, at, expires, topic, payload) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING"
        await self._store.write((insert, row), *await self._making_room(), durable=True)

    async def next(self) -> Waiting | None:
        """Return the message to send next; None where none waits. Those that came to be of no use are dropped."""
        now = utc_now()
        while True:
            rows = await self._store.read("SELECT * FROM outbox ORDER BY number LIMIT 1")
            if not rows:
                return None
            left = _seconds_left(rows[0]["expires"], now)
            if left is None or left > 0:
                return Waiting(rows[0]["number"], rows[0]["topic"], rows[0]["payload"].encode(), left)
            log.info("a message to %s waited until it was of no use, and is dropped", rows[0]["topic"])
            await self.sent(rows[0]["number"])

    async def sent(self, number: int) -> None:
        """Forget a message that the broker has. After a power cut it may be sent again: receivers know its id."""
        await self._store.write(("DELETE FROM outbox WHERE number = ?", (number,)))

    async def _making_room(self) -> list[Statement]:
        [row] = await self._store.read("SELECT count(*) AS waiting FROM outbox")
        if row["waiting"] < MOST:
            return []
        log.warning("%d messages wait for the broker already: the oldest is dropped", MOST)
        return [
            (
                "DELETE FROM outbox WHERE number NOT IN (SELECT number FROM outbox ORDER BY number DESC LIMIT ?)",
                (MOST,),
            )
        ]


def _seconds_left(expires: str | None, now: datetime) -> int | None:
    return None if expires is None else int((datetime.fromisoformat(expires) - now).total_seconds())
