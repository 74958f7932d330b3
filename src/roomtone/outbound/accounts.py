"""What language models were asked, how it went and what it cost: a row a call, and sums by day and provider."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.clock import utc_now
from roomtone.core.dialog import Tokens
from roomtone.database import Statement
from roomtone.outbound.ledger import Ledger, asked_since

KEPT = timedelta(days=400)
"""A row older than this goes when a new day begins."""

NOTHING = Tokens()

OK = "ok"
"""The status of a call that was answered to its end; any other says how it went wrong."""

BY = ("day", "provider", "model", "persona", "trace", "why", "status")
"""By what calls can be added up; a day is the household's."""


QUARTER_S = 900
"""In every zone a day begins with a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a language model. ``trace`` is its turn's, "" outside of any; ``why`` as in ``Options.why``.

    ``status`` is ``ok``, or how it went wrong (failed, stalled, cancelled, refused...), ``error`` the line that says
    so. The milliseconds run from the call: to the first piece of the answer (None: there was none), and to the end.
    """

    at: datetime
    provider: str
    model: str
    trace: str = ""
    persona: str = ""
    why: str = "answer"
    status: str = OK
    error: str = ""
    tokens: Tokens = NOTHING
    first_piece_ms: float | None = None
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Sum:
    """Calls added up: ``of`` are the values they have in common, in the order they were asked for by."""

    of: tuple[str, ...]
    calls: int = 0
    failed: int = 0
    tokens: Tokens = NOTHING


class Accounts:
    """Keeps calls behind whoever makes them, and knows what each provider took today, in the household's ``zone``."""

    def __init__(self, ledger: Ledger, zone: ZoneInfo) -> None:
        self._ledger = ledger
        self._zone = zone
        self._day: date | None = None
        self._today: dict[str, Tokens] = {}
        self._noted = 0
        self._pruned: date | None = None

    def note(self, call: Call) -> None:
        """Keep a call; never waits and never fails."""
        day = call.at.astimezone(self._zone).date()
        if self._day == day:
            self._today[call.provider] = self._today.get(call.provider, NOTHING) + call.tokens
        if self._pruned != day:
            self._pruned = day
            self._ledger.add(_pruning(call.at))
        self._noted += 1
        self._ledger.add(_keeping(call))

    async def today(self, provider: str) -> Tokens:
        """Return what a provider took since midnight, in tokens and dollars. Raises StoreError.

        The store is read once a day; from then on it is known.
        """
        now = utc_now().astimezone(self._zone)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        while self._day != now.date():
            noted = self._noted
            sums = await self.totals(midnight, ("provider",))
            if noted == self._noted:  # else a call that came meanwhile is in neither
                self._day, self._today = now.date(), {each.of[0]: each.tokens for each in sums}
        return self._today.get(provider, NOTHING)

    async def totals(self, since: datetime, by: Sequence[str] = ("day", "provider")) -> list[Sum]:
        """Add up the calls since a moment by some of ``BY``, in that order. Raises StoreError."""
        return await totals(self._ledger, since, self._zone, by)


async def totals(ledger: Ledger, since: datetime, zone: ZoneInfo, by: Sequence[str]) -> list[Sum]:
    """Add up the calls since a moment (see ``Accounts.totals``)."""
    assert set(by) <= set(BY), f"calls are added up by {', '.join(BY)}"
    columns = [f"strftime('%s', at) / {QUARTER_S} AS quarter" if each == "day" else each for each in by]
    names = ["quarter" if each == "day" else each for each in by]
    took = "count(*) AS calls, sum(status != 'ok') AS failed, " + ", ".join(
        f"sum({column}) AS {column}" for column in ("read", "cached", "written", "cost")
    )
    query = f"SELECT {', '.join([*columns, took])} FROM llm_calls WHERE at >= ? GROUP BY {', '.join(names)}"
    sums: defaultdict[tuple[str, ...], list[Sum]] = defaultdict(list)
    for row in await ledger.read(query, since.astimezone(UTC).isoformat()):
        of = tuple(_day(row[name], zone) if name == "quarter" else str(row[name]) for name in names)
        tokens = Tokens(read=row["read"], cached=row["cached"], written=row["written"], cost=row["cost"])
        sums[of].append(Sum(of, row["calls"], row["failed"], tokens))
    return [_together(sums[of]) for of in sorted(sums)]


async def answer(request: Mapping[str, Any], ledger: Ledger, zone: ZoneInfo) -> AsyncIterator[dict[str, Any]]:
    """Answer the request ``costs``: ``{"cost"}`` a day and provider ``since`` then (ISO 8601), then how many.

    Raises UsageError for a wrong request, StoreError.
    """
    sums = await totals(ledger, asked_since(request), zone, ("day", "provider"))
    for each in sums:
        day, provider = each.of
        counted = {"calls": each.calls, "failed": each.failed, **each.tokens.model_dump()}
        yield {"cost": {"day": day, "provider": provider, **counted}}
    yield {"result": len(sums)}


def _together(sums: list[Sum]) -> Sum:
    tokens = sum((each.tokens for each in sums), NOTHING)
    return Sum(sums[0].of, sum(each.calls for each in sums), sum(each.failed for each in sums), tokens)


def _day(quarter: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).date().isoformat()


def _keeping(call: Call) -> Statement:
    tokens = call.tokens
    row = {
        "at": call.at.astimezone(UTC).isoformat(),
        "trace": call.trace,
        "persona": call.persona,
        "provider": call.provider,
        "model": call.model,
        "why": call.why,
        "status": call.status,
        "error": call.error,
        "read": tokens.read,
        "cached": tokens.cached,
        "written": tokens.written,
        "cost": tokens.cost,
        "first_piece_ms": call.first_piece_ms,
        "total_ms": call.total_ms,
    }
    return f"INSERT INTO llm_calls ({', '.join(row)}) VALUES ({','.join('?' * len(row))})", tuple(row.values())


def _pruning(now: datetime) -> Statement:
    return "DELETE FROM llm_calls WHERE at < ?", ((now - KEPT).astimezone(UTC).isoformat(),)
