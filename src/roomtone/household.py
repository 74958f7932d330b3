"""What skills may know and do in this room, and the timers that ring in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.clock import utc_now
from roomtone.core.dialog import Item, Persona, Source, Timer, Turn
from roomtone.core.errors import StoreError
from roomtone.core.machine import Prompt, Signal
from roomtone.engines.audio import Loudspeaker
from roomtone.mind.phrases import Phrases
from roomtone.store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""A Pi without a clock battery may find out at any time that it is another hour: look again this often."""


class Timers:
    """The household's timers: kept in the store before they are promised, rung when they are due.

    A timer's row goes only once it was heard (``rung``), so a power cut in between lets it ring again; within one
    run of the program each is rung once, whatever becomes of the disk.
    """

    def __init__(self, store: Store, time_zone: ZoneInfo, phrases: Phrases, post: Callable[[Signal], None]) -> None:
        self._store = store
        self._time_zone = time_zone
        self._phrases = phrases
        self._post = post
        self._changed = asyncio.Event()
        self._rung: set[str] = set()

    async def add(self, seconds: int, name: str) -> Timer:
        """Start a timer; it has reached the disk when this returns. Raises StoreError."""
        set_at = utc_now()
        timer = Timer(name=name, seconds=seconds, set_at=set_at, due=set_at + timedelta(seconds=seconds))
        try:
            await self._store.add_timer(timer)
        finally:
            self._changed.set()
        return timer

    async def cancel(self, timers: list[Timer]) -> None:
        """Cancel timers. Raises StoreError."""
        try:
            await self._store.cancel_timers(timers)
        finally:
            self._changed.set()

    async def running(self) -> list[Timer]:
        """List the timers that have not rung, the next first. Raises StoreError."""
        return [timer for timer in await self._store.timers() if timer.id not in self._rung]

    async def heard(self, timer_id: str) -> None:
        """Forget a timer whose alarm was heard. Raises StoreError."""
        for timer in await self._store.timers():
            if timer.id == timer_id:
                await self._store.cancel_timers([timer])

    async def ring(self) -> None:
        """Ring each timer when it is due, for as long as this runs; what came due while off is said at once."""
        began = utc_now()
        while True:
            self._changed.clear()
            wait = LONGEST_WAIT_S
            try:
                for timer in await self.running():
                    seconds = (timer.due - utc_now()).total_seconds()
                    if seconds <= 0:
                        self._ring(timer, missed=timer.due < began)
                    wait = min(wait, max(0.0, seconds))
            except StoreError as error:
                log.error("timers cannot be read: %s", error.message)
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _ring(self, timer: Timer, *, missed: bool) -> None:
        key = "timer_missed" if missed else "timer_rings"
        values = {"name": timer.name, "time": self._phrases.time(timer.due.astimezone(self._time_zone))}
        text = self._phrases.say(f"{key}_named" if timer.name else key, **values)
        self._rung.add(timer.id)
        self._post(Prompt(text, Source.SCHEDULE, verbatim=True, alarm=timer.id))


@dataclass(frozen=True, slots=True)
class TurnHousehold:
    """Implements ``mind.Household`` for one turn; ``on_act`` is called before anything is changed."""

    persona: Persona
    time_zone: ZoneInfo
    loudspeaker: Loudspeaker
    all_timers: Timers
    store: Store
    session: str | None
    on_act: Callable[[], None]
    erase: Callable[[datetime], Awaitable[int]]

    def now(self) -> datetime:
        """Return the present in the household's time zone."""
        return utc_now().astimezone(self.time_zone)

    def volume(self) -> float:
        """Return loudness, 0 to 1."""
        return self.loudspeaker.volume

    async def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""
        self.on_act()
        self.loudspeaker.set_volume(volume)

    async def set_timer(self, seconds: int, name: str) -> Timer:
        """Start a timer; it has reached the disk when this returns. Raises StoreError."""
        self.on_act()
        return await self.all_timers.add(seconds, name)

    async def timers(self) -> list[Timer]:
        """List running timers, the next to ring first. Raises StoreError."""
        return await self.all_timers.running()

    async def cancel_timers(self, timers: list[Timer]) -> None:
        """Cancel timers. Raises StoreError."""
        self.on_act()
        await self.all_timers.cancel(timers)

    async def items(self) -> list[Item]:
        """List what is on all lists, and of each list what was removed last. Raises StoreError."""
        return await self.store.items()

    async def save_items(self, items: list[Item]) -> None:
        """Keep items, new or changed; they have reached the disk when this returns. Raises StoreError."""
        self.on_act()
        await self.store.save_items(items)

    async def last_turn(self) -> Turn | None:
        """Return the last finished turn of the session in which something was heard. Raises StoreError."""
        return await self.store.last_turn(self.session) if self.session else None

    async def forget(self, since: datetime) -> int:
        """Erase what was said since a moment but for this turn; return how many turns. Raises StoreError."""
        self.on_act()
        return await self.erase(since)
