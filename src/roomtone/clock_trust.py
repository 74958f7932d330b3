"""Whether the clock may be believed, and what was stamped by it before it was set.

A Pi has no clock that runs while it is off: it starts with the time of its last shutdown, or 1970, and shows that
until a time server has answered. Such a clock is behind and never ahead. What came before anybody set it is stamped
anew once it is set, so that the last hour is the last hour again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from roomtone.clock import SkippingLoop, elapsed, utc_now
from roomtone.core.errors import StoreError
from roomtone.database import Statement
from roomtone.store import Store, iso

log = logging.getLogger(__name__)

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
"""Roomtone was made after this: a clock that shows an earlier time is wrong."""

AHEAD = timedelta(days=365)
"""What the store holds of so far ahead was written by a clock that was wrong then."""

SERVICE = Path("/run/systemd/timesync")
SYNCHRONISED = SERVICE / "synchronized"
"""systemd-timesyncd makes the folder when it starts, and the file once a server has set the clock since the boot."""

HARDWARE = Path("/sys/class/rtc/rtc0/since_epoch")
"""What a real-time clock shows, in seconds; one without a battery starts at 1970 as well."""

AGREES_S = 3600.0
"""So far a real-time clock may be from the time of day that was set by it."""

PATIENCE_S = 900.0
"""A server that has not answered for so long is not there: what comes round goes by the clock that there is."""

LOOK_S = 2.0
JUMP_S = 60.0
"""A stamp that is wrong by less does no harm."""

_SHIFT = "strftime('%Y-%m-%dT%H:%M:%f+00:00', {}, :by)"
_STAMPS = (
    *(("memories", "expires", "at"), ("outbox", "expires", "at"), ("routine_runs", "ended", "at")),
    *(("sessions", "ended", "ended"), ("sessions", "started", "started"), ("persona_versions", "since", "since")),
    *(("persona_versions", "last_used", "last_used"), ("items", "added", "added"), ("items", "removed", "removed")),
    *((table, "at", "at") for table in ("messages", "summaries", "llm_calls", "sent", "tool_runs", "routine_runs")),
    *((table, "at", "at") for table in ("memories", "outbox", "persona_switches", "kept")),
)
"""What of the store bears a time of day, and the column that tells when it was written; ``turns`` hold it twice."""


def synchronised() -> bool:
    """Say whether a time server has set the machine's clock since it was started."""
    return not isinstance(asyncio.get_running_loop(), SkippingLoop) and SYNCHRONISED.exists()


def awaited() -> bool:
    """Say whether a time server is still to set the machine's clock, and no real-time clock did: nobody knows it."""
    if isinstance(asyncio.get_running_loop(), SkippingLoop) or not SERVICE.is_dir() or SYNCHRONISED.exists():
        return False
    try:
        shown = float(HARDWARE.read_text())
    except (OSError, ValueError):
        return True
    return shown < EPOCH.timestamp() or abs(shown - time.time()) > AGREES_S


class ClockTrust:
    """Knows whether the clock may be believed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest: datetime | None = None
        self._was_set = False
        self._started = elapsed()
        self._began = utc_now()
        self._drift = self._began.timestamp() - self._started

    async def learn(self) -> None:
        """Learn from the store what time it is at least."""
        try:
            self._newest = await self._store.last_known()
        except StoreError as error:
            log.error("what time it is at least is not known: %s", error.message)
        if not self.is_right():
            log.warning("the clock was not set since the machine was started; it shows %s", iso(utc_now()))

    def is_near(self) -> bool:
        """Say whether it may be about the time that the clock shows: good enough for not waking anybody."""
        return utc_now() >= EPOCH

    def is_possible(self) -> bool:
        """Say whether it may be as late as the clock shows: nothing that is known came later, but for nonsense."""
        now, newest = utc_now(), self._newest
        earlier = newest is not None and now < newest <= now + AHEAD
        return synchronised() or (self.is_near() and not earlier)

    def is_right(self) -> bool:
        """Say whether the clock may be told to people."""
        return self.is_possible() and (self._was_set or not awaited())

    def serves(self) -> bool:
        """Say whether what comes round may go by the clock: nobody is going to set it, as it seems."""
        return self.is_right() or (self.is_possible() and elapsed() - self._started >= PATIENCE_S)

    async def watch(self, on_set: Callable[[], None]) -> None:
        """Notice when the clock is set, for as long as this runs: stamp anew what was written since the start."""
        while True:
            await asyncio.sleep(LOOK_S)
            drift = utc_now().timestamp() - elapsed()
            jump = drift - self._drift
            if abs(jump) < JUMP_S:
                continue
            self._drift, before = drift, self._began
            self._began += timedelta(seconds=jump)
            self._was_set = True
            log.warning("the clock was set by %+.0f s", jump)
            try:
                await self._store.write(*restamping(before, utc_now() - timedelta(seconds=jump), jump))
            except StoreError as error:
                log.error("what was said before the clock was set has wrong times: %s", error.message)
            on_set()


def restamping(since: datetime, until: datetime, by_s: float) -> list[Statement]:
    """Return the statements that move what was written between two moments by some seconds."""
    which = {"since": iso(since), "until": iso(until), "by": f"{by_s:+.3f} seconds"}
    moved = [
        f"UPDATE {table} SET {column} = {_SHIFT.format(column)} WHERE {when} >= :since AND {when} <= :until"
        for table, column, when in _STAMPS
    ]
    at, started = _SHIFT.format("at"), "json_extract(data, '$.started')"
    moved += [
        f"UPDATE turns SET data = json_set(data, '$.at', {at}), at = {at} WHERE at >= :since AND at <= :until",
        f"UPDATE stopwatch SET data = json_set(data, '$.started', {_SHIFT.format(started)}) "
        f"WHERE {started} >= :since AND {started} <= :until",
    ]
    return [(statement, which) for statement in moved]
