"""The privacy receipt: every call that left this machine, to whom, how much of what, and for which turn."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from roomtone.core.errors import UsageError
from roomtone.core.persona import Egress
from roomtone.database import Statement
from roomtone.flow import Feed
from roomtone.outbound import Note, Sent
from roomtone.outbound.ledger import Ledger, asked_since

KEPT = timedelta(days=400)
"""A row older than this goes when a new day begins."""

PAGE = 1000
"""Rows that are read at once: the room goes on in between."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the receipt: what was sent, in which turn (its trace, "" outside of any), as which persona.

    ``session`` and ``turn``, its number there, are known once the turn is kept, and until it is forgotten.
    """

    sent: Sent
    trace: str = ""
    persona: str = ""
    session: str | None = None
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """How many calls went to a host, how far that is, and how many bytes of each kind they had."""

    host: str
    reach: Egress
    calls: int
    text: int
    audio: int


class Receipts:
    """Keeps what left this machine and tells the feed (``egress.sent``); a turn neither waits for it nor fails."""

    def __init__(self, ledger: Ledger, feed: Feed) -> None:
        self.ledger = ledger
        self._feed = feed
        self._day: date | None = None

    def note(self, trace: str = "", persona: str = "") -> Note:
        """Return what ``outbound.within`` is to tell in a turn, or outside of any."""

        def note(sent: Sent) -> None:
            if self._day != sent.at.date():
                self._day = sent.at.date()
                self.ledger.add(pruning(sent.at))
            entry = Entry(sent, trace, persona)
            self.ledger.add(keeping(entry))
            self._feed.publish("egress.sent", entry, source="receipt", trace=trace or None)

        return note


def keeping(entry: Entry) -> Statement:
    """Return the statement that keeps a line of the receipt."""
    sent = entry.sent
    at = sent.at.astimezone(UTC).isoformat()
    row = (at, entry.trace, entry.persona, sent.host, sent.reach, sent.bytes, sent.kind, sent.why)
    return "INSERT INTO sent (at, trace, persona, host, reach, bytes, kind, why) VALUES (?,?,?,?,?,?,?,?)", row


def pruning(at: datetime) -> Statement:
    """Return the statement that lets go of what is older than is kept."""
    return "DELETE FROM sent WHERE at < ?", ((at - KEPT).astimezone(UTC).isoformat(),)


async def entries(ledger: Ledger, since: datetime) -> list[Entry]:
    """Return what left this machine since a moment, the oldest first. Raises StoreError."""
    columns = "sent.*, turns.session AS session, turns.turn AS turn"
    joined = "sent LEFT JOIN turns ON sent.trace != '' AND turns.trace = sent.trace"
    query = f"SELECT {columns} FROM {joined} WHERE (sent.at, sent.id) > (?, ?) ORDER BY sent.at, sent.id LIMIT ?"
    found: list[Entry] = []
    last = since.astimezone(UTC).isoformat(), -1
    while rows := await ledger.read(query, *last, PAGE):
        found += map(_entry, rows)
        last = rows[-1]["at"], rows[-1]["id"]
    return found


def _entry(row: sqlite3.Row) -> Entry:
    at = datetime.fromisoformat(row["at"])
    sent = Sent(row["host"], Egress(row["reach"]), row["bytes"], row["kind"], row["why"], at)
    return Entry(sent, row["trace"], row["persona"], row["session"], row["turn"])


async def sent_since(ledger: Ledger, since: datetime) -> list[Sent]:
    """Return what left this machine since a moment, the oldest first. Raises StoreError."""
    return [entry.sent for entry in await entries(ledger, since)]


def totals(sent: Iterable[Sent]) -> list[Total]:
    """Add up what was sent by host, those beyond the house first, then those that were sent most."""
    found: dict[tuple[str, Egress], Total] = {}
    for each in sent:
        key = each.host, each.reach
        before = found.get(key, Total(*key, 0, 0, 0))
        audio = each.bytes if each.kind == "audio" else 0
        found[key] = Total(*key, before.calls + 1, before.text + each.bytes - audio, before.audio + audio)
    return sorted(found.values(), key=lambda total: (total.reach is not Egress.ANY, -total.text - total.audio))


async def answer(request: Mapping[str, Any], receipts: Receipts) -> AsyncIterator[dict[str, Any]]:
    """Answer the request ``receipt``: ``{"sent"}`` a call ``since`` then (ISO 8601), ``{"total"}`` a host, the count.

    With ``note``, a call that another program made, keep that instead. Raises UsageError for a wrong request,
    StoreError.
    """
    if "note" in request:
        receipts.note()(_noted(request["note"]))
        yield {"result": 1}
        return
    found = await entries(receipts.ledger, asked_since(request))
    for entry in found:
        row = asdict(entry)
        yield {"sent": {**row.pop("sent"), **row}}
    for total in totals(entry.sent for entry in found):
        yield {"total": asdict(total)}
    yield {"result": len(found)}


def _noted(call: Any) -> Sent:
    from pydantic import TypeAdapter, ValidationError  # needed once in a while

    try:
        return TypeAdapter(Sent).validate_python(call)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise UsageError(f"note.{where}: {wrong['msg']}") from None
