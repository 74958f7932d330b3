"""What skills may know and do in this room: its clock, its loudness, its timers, what was said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.clock import utc_now
from roomtone.core.dialog import Persona, Source, Timer, Turn
from roomtone.core.machine import Prompt, Signal
from roomtone.engines.audio import Loudspeaker
from roomtone.mind.phrases import Phrases
from roomtone.store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""A Pi without a clock battery may find out at any time that it is another hour: look again this often."""


class RoomHousehold:
    """Implements ``mind.Household`` over the store and the loudspeaker, and lets timers ring."""

    def __init__(
        self,
        store: Store,
        loudspeaker: Loudspeaker,
        persona: Persona,
        time_zone: ZoneInfo,
        phrases: Phrases,
        post: Callable[[Signal], None],
    ) -> None:
        self.persona = persona
        self.on_act: Callable[[], None] = lambda: None
        self.session: Callable[[], str | None] = lambda: None
        self._store = store
        self._loudspeaker = loudspeaker
        self._time_zone = time_zone
        self._phrases = phrases
        self._post = post
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """Return the present in the household's time zone."""
        return utc_now().astimezone(self._time_zone)

    def volume(self) -> float:
        """Return loudness, 0 to 1."""
        return self._loudspeaker.volume

    async def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""
        self.on_act()
        self._loudspeaker.set_volume(volume)

    async def set_timer(self, seconds: int, name: str) -> Timer:
        """Start a timer; it has reached the disk when this returns. Raises StoreError."""
        self.on_act()
        set_at = utc_now()
        timer = Timer(name=name, seconds=seconds, set_at=set_at, due=set_at + timedelta(seconds=seconds))
        await self._store.add_timer(timer)
        self._changed.set()
        return timer

    async def timers(self) -> list[Timer]:
        """List running timers, the next to ring first."""
        return await self._store.timers()

    async def cancel_timers(self, timers: list[Timer]) -> None:
        """Cancel timers."""
        self.on_act()
        await self._store.cancel_timers(timers)
        self._changed.set()

    async def last_turn(self) -> Turn | None:
        """Return the last finished turn in which something was heard."""
        session = self.session()
        return await self._store.last_turn(session) if session else None

    async def ring_timers(self) -> None:
        """Ring each timer when it is due, for as long as this runs; what came due while off is said at once."""
        for timer in await self._store.timers():
            if timer.due <= utc_now():
                await self._ring(timer, missed=True)
        while True:
            self._changed.clear()
            waiting = await self._store.timers()
            if not waiting:
                await self._changed.wait()
                continue
            seconds = (waiting[0].due - utc_now()).total_seconds()
            if seconds <= 0:
                await self._ring(waiting[0], missed=False)
                continue
            try:
                async with asyncio.timeout(min(seconds, LONGEST_WAIT_S)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _ring(self, timer: Timer, *, missed: bool) -> None:
        key = "timer_missed" if missed else "timer_rings"
        values = {"name": timer.name, "time": self._phrases.time(timer.due.astimezone(self._time_zone))}
        text = self._phrases.say(f"{key}_named" if timer.name else key, **values)
        await self._store.rung(timer)
        self._post(Prompt(text, Source.SCHEDULE, verbatim=True, alarm=True))
