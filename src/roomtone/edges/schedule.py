"""What comes round by itself: posts what each schedule does when its time has come, once.

A run is kept on the disk before it does anything, so that a crash doubles none. Where a missed one is to be made up
for, it is kept as ``begun`` until its words have been heard (what it says, to the end; what it asks, until the answer
begins) or wait in the store for the end of quiet hours; a room that is started again runs what was only begun once
more. Between two runs nothing is written, and the time of day is looked at once a minute, since a clock may be set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from roomtone.clock import utc_now
from roomtone.core.dialog import Source
from roomtone.core.errors import StoreError
from roomtone.core.persona import Persona, Trigger
from roomtone.core.recurrence import next_time
from roomtone.core.schedule import MAKE_UP, Missed, Past, Schedule, due
from roomtone.flow import Event, Feed, beside
from roomtone.quiet import Quiet
from roomtone.store import Store

log = logging.getLogger(__name__)

KEY = "schedule/"
"""Under this and its id the store keeps what was run of a schedule; its last words bear the same as their ticket."""

OF_PERSONA = "persona:"
"""Begins the id of a schedule that stands in a persona's own file; no id of the household's has a colon."""

LONGEST_WAIT_S = 60.0
UNKNOWN_WAIT_S = 10.0
"""How often the clock is looked at, at longest: it may be set at any time, and before that nobody knows the time."""

Personas = Callable[[], Awaitable[list[Persona]]]


class Schedules:
    """The ``household``'s schedules by id, and those of its ``personas``, which may change while this runs.

    None is run before the time ``is_known``: a clock that will be set would let them come at any hour, and twice.
    """

    def __init__(
        self,
        household: Mapping[str, Schedule],
        personas: Personas,
        quiet: Quiet,
        store: Store,
        zone: ZoneInfo,
        is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        self._household = household
        self._personas = personas
        self._quiet = quiet
        self._store = store
        self._zone = zone
        self._is_known = is_known
        self._schedules: dict[str, Schedule] | None = None
        self._pasts: dict[str, Past] = {}
        self._seen: dict[str, datetime] = {}
        self._changed = asyncio.Event()
        self.looked = asyncio.Event()

    async def run(self, feed: Feed) -> None:
        """Run each when its time comes, for as long as this runs.

        When ``looked`` is set, what was missed while off has been made up for.
        """
        async with (
            beside(feed.attend("schedules", "turn.*", self._follow), "schedules heard"),
            beside(feed.attend("schedules", "personas.changed", self._reread), "schedules of personas"),
        ):
            while True:
                self._changed.clear()
                try:
                    wait = await self._look()
                except Exception:  # an edge never ends the voice
                    log.exception("schedules")
                    wait = LONGEST_WAIT_S
                self.looked.set()
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def _look(self) -> float | None:
        """Run what is due; return the seconds until it must be looked again, None where there is no schedule."""
        if self._schedules is None:
            self._schedules = await self._all()
        if not self._is_known():
            return UNKNOWN_WAIT_S if self._schedules else None
        schedules, now = self._schedules, utc_now()
        found = [(at, id_) for id_, schedule in schedules.items() if (at := await self._due(id_, schedule, now))]
        for at, id_ in sorted(found):
            await self._run(id_, schedules[id_], at)
        now = utc_now()
        waits = [(next_time(each.cron, now, self._zone) - now).total_seconds() for each in schedules.values()]
        return min([LONGEST_WAIT_S, *waits]) if waits else None

    async def _all(self) -> dict[str, Schedule]:
        personas = await self._personas()
        known = {persona.id for persona in personas}
        for id_, schedule in self._household.items():
            if schedule.persona is not None and schedule.persona not in known:
                log.warning("schedules.%s.persona: there is no persona '%s'", id_, schedule.persona)
        return {
            **self._household,
            **{f"{OF_PERSONA}{each.id}": own for each in personas if (own := of_persona(each))},
        }

    async def _due(self, id_: str, schedule: Schedule, now: datetime) -> datetime | None:
        past, begun = self._pasts.get(id_), None
        if past is None or past.cron != schedule.cron:
            past = await self._recall(id_, schedule, now)
            begun = past.spans[-1].last if past.begun else None
        seen, self._seen[id_] = self._seen[id_], now
        return due(schedule, past, seen, now, self._zone) or _again(schedule, begun, now)

    async def _recall(self, id_: str, schedule: Schedule, now: datetime) -> Past:
        """Return what was run of a schedule; one that is new, or comes at other times than before, has no past."""
        try:
            kept = await self._store.kept(KEY + id_)
        except StoreError as error:
            log.error("when %s was last run cannot be read: %s", id_, error.message)
            kept = None
        past = Past.model_validate(kept) if kept is not None else None
        if past is None or past.cron != schedule.cron:
            past = Past(cron=schedule.cron, since=now)
            await self._keep(id_, past)
        self._pasts[id_] = past
        self._seen[id_] = past.until(now)
        return past

    async def _run(self, id_: str, schedule: Schedule, at: datetime) -> None:
        makes_up = schedule.missed is Missed.MAKE_UP
        await self._keep(id_, self._pasts[id_].with_run(at, self._zone, begun=makes_up))
        late = (utc_now() - at).total_seconds()
        log.info("schedule %s is run%s", id_, f", {late:.0f} s late" if late > 1 else "")
        try:
            said = await self._quiet.act(schedule, Source.SCHEDULE, f"schedule {id_}", KEY + id_)
        except StoreError as error:
            log.error("schedule %s: %s", id_, error.message)
            return
        if makes_up and not said:
            await self._keep(id_, self._pasts[id_].model_copy(update={"begun": False}))

    async def _keep(self, id_: str, past: Past) -> None:
        """Keep what was run; where the disk fails, at least for this run of the program."""
        self._pasts[id_] = past
        try:
            await self._store.keep(KEY + id_, past.model_dump(mode="json"))
        except StoreError as error:
            log.error("schedule %s may be run twice after a restart: %s", id_, error.message)

    async def _follow(self, event: Event) -> None:
        """Take note that the words of a run were heard."""
        if event.kind == "turn.ended":
            ticket = event.data.ticket
        elif event.kind == "turn.first_sound" and event.data.prompt is not None and not event.data.prompt.verbatim:
            ticket = event.data.prompt.ticket
        else:
            return
        id_ = (ticket or "").removeprefix(KEY)
        past = self._pasts.get(id_)
        if ticket and past is not None and past.begun:
            await self._keep(id_, past.model_copy(update={"begun": False}))

    async def _reread(self, _: Event) -> None:
        self._schedules = None
        self._changed.set()


def _again(schedule: Schedule, begun: datetime | None, now: datetime) -> datetime | None:
    """Return the run that a crash came into, if it is to be made up for."""
    made_up = begun is not None and schedule.missed is Missed.MAKE_UP and abs(now - begun) <= MAKE_UP
    return begun if made_up else None


def of_persona(persona: Persona) -> Schedule | None:
    """Return the schedule by which a persona is called, if one calls it."""
    if Trigger.SCHEDULE not in persona.trigger_types or persona.schedule_cron is None:
        return None
    return Schedule(cron=persona.schedule_cron, persona=persona.id)
