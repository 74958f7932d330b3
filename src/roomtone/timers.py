"""What rings in this room: kept in the store before it is promised, rung when it is due, and told where nobody heard.

One ring at a time: what comes due while others ring joins them. It is over when somebody says or does something, or
after ``RING_S``; then it is missed, and told after somebody has next spoken.

Lengths of time and times of day part ways where the clock is set: a Pi has none that runs while it is off, and starts
with the time of its last shutdown, or 1970. A length set in this run goes on for what it has left; a time of day is
the clock's, and what the clock jumped over came due while the room was off.

For how long it was off is known to about a minute: a mark is kept while a countdown runs, and where the room is
stopped in order. Else nobody was told anything that idle time would be written down for, and no length is named.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.clock import elapsed, utc_now
from roomtone.clock_trust import ClockTrust
from roomtone.core.dialog import Ended, Source, Timer, TimerKind, new_id
from roomtone.core.errors import StoreError
from roomtone.core.recurrence import Clock, every, next_time
from roomtone.core.signals import Prompt, Signal
from roomtone.mind import announcing
from roomtone.mind.phrases import Phrases
from roomtone.store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""A clock may be set at any time: look again this often."""

RING_S = {TimerKind.TIMER: 300.0, TimerKind.ALARM: 600.0, TimerKind.REMINDER: 300.0}
"""How long each rings for somebody who does not answer."""

SNOOZABLE_S = 300.0
"""For this long after a ring it can still be snoozed."""

JUST_RANG_S = 8.0
"""Who says "cancel the alarm" so soon after a ring means what rang, and nothing that is set for later."""

ALIVE = "alive"
"""Under this the store keeps when the room was last known to be on, and whether it was then stopped in order."""

BLIND = "timers/blind"
"""Under this the store keeps which alarms were set for a time of day before that was known."""

RETURNED_S = 900.0
"""For so long after its start the room tells how long it was off: a clock that is set later has another reason."""

JUMP_S = 5.0
"""From this much on, the clock was set; less is a time server's steady hand."""


@dataclass(slots=True)
class Ring:
    """What rings together, or with ``tells`` what is told once.

    ``late`` came due while the room was off (for ``off_s`` seconds, if known), and is told as it stood at ``begun``.

    ``until`` and ``ended`` are seconds of ``clock.elapsed``, None before it sounds and before it is over. ``missed``
    are the rows that were kept of it; ``snoozed``: nothing of it is missed any more.
    """

    id: str
    timers: list[Timer]
    begun: datetime
    off_s: float | None = None
    late: list[Timer] = field(default_factory=list)
    tells: bool = False
    until: float | None = None
    ended: float | None = None
    missed: tuple[Timer, ...] = ()
    snoozed: bool = False


class Timers:
    """All that rings. A row leaves the store only when its ring was heard or told; within one run of the program
    each rings once for every time it is due, whatever becomes of the disk.
    """

    def __init__(
        self,
        store: Store,
        time_zone: ZoneInfo,
        phrases: Phrases,
        post: Callable[[Signal], None],
        trust: ClockTrust,
        is_quiet: Callable[[], bool] = lambda: False,
    ) -> None:
        self.looked = asyncio.Event()
        self._store = store
        self._time_zone = time_zone
        self._phrases = phrases
        self._post = post
        self._trust = trust
        self._is_quiet = is_quiet
        self._changed = asyncio.Event()
        self._rung: dict[str, datetime] = {}
        self._lengths: set[str] = set()
        self._rings: dict[str, Ring] = {}
        self._last: Ring | None = None
        self._anything_missed = True
        self._known_since = utc_now()
        self._drift = self._known_since.timestamp() - elapsed()
        self._blind: set[str] | None = None
        self._off_since: datetime | None = None
        self._started = elapsed()
        self._marked = -LONGEST_WAIT_S

    # -------------------------------------------------------------------------------------- set and ask

    async def save(self, timers: Sequence[Timer]) -> None:
        """Keep timers, new or changed; they have reached the disk when this returns. Raises StoreError."""
        self._lengths |= {timer.id for timer in timers if timer.seconds}
        blind = {timer.id for timer in timers if timer.kind is TimerKind.ALARM and not timer.seconds}
        try:
            if blind and not self.clock_is_right():
                self._blind = (self._blind or set()) | blind
                await self._store.keep(BLIND, sorted(self._blind))
            await self._store.save_timers(timers)
        finally:
            self._changed.set()

    async def cancel(self, timers: Sequence[Timer]) -> None:
        """Cancel timers. Raises StoreError."""
        try:
            await self._store.cancel_timers(timers)
        finally:
            self._changed.set()

    def moved(self, come: Sequence[Timer] = ()) -> None:
        """Look again at what is to ring: some went to another room, or came from one and are in the store."""
        self._lengths |= {timer.id for timer in come if timer.seconds}
        self._changed.set()

    async def running(self) -> list[Timer]:
        """List what is still to ring, the next first. Raises StoreError."""
        await self._follow_clock()
        standing = (self._standing(timer) for timer in await self._store.timers())
        return sorted((timer for timer in standing if timer is not None), key=lambda timer: timer.due)

    def rang(self) -> list[Timer]:
        """List what rings now, or did until a moment ago."""
        ring = self._latest(JUST_RANG_S)
        return list(ring.timers) if ring else []

    async def snooze(self, seconds: int) -> list[Timer]:
        """Let what rings, or has just rung, ring again after some seconds; return it, none where nothing did.

        It has reached the disk when this returns. Raises StoreError.
        """
        ring = self._latest(SNOOZABLE_S)
        if ring is None:
            return []
        ring.snoozed = True
        now = utc_now()
        again = {"set_at": now, "due": now + timedelta(seconds=seconds), "seconds": seconds, "repeat": None}
        later = [timer.model_copy(update={**again, "id": new_id()}) for timer in ring.timers]
        saved, done = self._after(ring.timers)
        self._lengths |= {timer.id for timer in later}
        try:
            await self._store.save_timers([*later, *saved], [*done, *ring.missed])
        finally:
            self._changed.set()
        if ring is self._last:
            self._last = None
        return later

    def clock_is_right(self) -> bool:
        """Say whether the clock may be believed."""
        return self._trust.is_right()

    # --------------------------------------------------------------------------------------------- ring

    async def ring(self) -> None:
        """Ring each when it is due, for as long as this runs.

        What came due while off is told at once, or after quiet hours: when ``looked`` is set, it is posted.
        """
        try:
            while True:
                self._changed.clear()
                wait = await self._look()
                self.looked.set()
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await self._mark_stop()

    async def _look(self) -> float:
        """Ring what is due; return the seconds until it must be looked again."""
        try:
            if self._blind is None:
                self._off_since = await self._last_alive()
                self._blind = set(await self._store.kept(BLIND) or ())
            if self._blind and self.clock_is_right():
                await self._open_eyes()
            running = [timer for timer in await self.running() if timer.paused_s is None]
            known = self._trust.serves()
            self._begin([each for each in running if each.due <= utc_now() and (known or each.id not in self._blind)])
            await self._mark(running)
        except StoreError as error:
            log.error("timers cannot be read: %s", error.message)
            return LONGEST_WAIT_S
        waits = [(timer.due - utc_now()).total_seconds() for timer in running if timer.due > utc_now()]
        return max(0.0, min([LONGEST_WAIT_S, *waits]))

    async def _open_eyes(self) -> None:
        """Let alarms that were set before the time was known ring at their time of day, the next that comes."""
        zone, blind = self._time_zone, self._blind or set()
        saved = []
        for timer in await self._store.timers():
            due = timer.due.astimezone(zone)
            repeat = timer.repeat or every(Clock(due.hour, due.minute))
            if timer.id in blind and not timer.missed:
                saved.append(timer.model_copy(update={"due": next_time(repeat, utc_now(), zone)}))
        await self._store.save_timers(saved)
        await self._store.keep(BLIND, None)
        self._blind = set()

    def line(self, alarm: str) -> str | None:
        """Return what a ring says in its next round; None where it has rung long enough, or told what it tells."""
        ring = self._rings.get(alarm)
        if ring is None or (ring.until is not None and elapsed() >= ring.until):
            return None
        if ring.until is None:
            ring.until = elapsed() + (0.0 if ring.tells else _bound(ring.timers))
        return self._text(ring)

    def only_tells(self, alarm: str) -> bool:
        """Say whether a ring is one that tells what nobody heard, once."""
        ring = self._rings.get(alarm)
        return ring is not None and ring.tells

    def over(self, alarm: str, ended: Ended) -> Ring | None:
        """Take note that a ring's turn has ended; return the ring, to be settled, unless it is to ring again."""
        ring = self._rings.get(alarm)
        if ring is None:
            return None
        if ring.until is None and ended is not Ended.FAILED:
            self._post(self._prompt(ring))  # nobody has heard anything of it yet
            return None
        del self._rings[alarm]
        ring.ended = elapsed()
        if not ring.tells:
            self._last = ring
        return ring

    async def settle(self, ring: Ring, ended: Ended) -> None:
        """Keep what a ring came to: heard, told or missed. Raises StoreError."""
        done = (Ended.INTERRUPTED, Ended.DISMISSED, *((Ended.COMPLETED,) if ring.tells else ()))
        if ring.snoozed or (ring.tells and ended not in done):
            return
        saved, removed = self._after(ring.timers)
        if ended not in done:
            ring.missed = tuple(_missed(timer) for timer in ring.timers)
            self._anything_missed = True
        await self._store.save_timers([*saved, *ring.missed], removed)

    async def tell_missed(self) -> None:
        """Tell what nobody heard, if anything, to somebody who has just spoken. Raises StoreError."""
        if not self._anything_missed or any(ring.tells for ring in self._rings.values()):
            return
        missed = [timer for timer in await self._store.timers() if timer.missed]
        self._anything_missed = bool(missed)
        if missed:
            self._start(Ring(new_id(), missed, utc_now(), tells=True))

    # ------------------------------------------------------------------------------------------ absence

    async def _last_alive(self) -> datetime | None:
        """Return when the room went off, None where that is not known to about a minute."""
        known = [turn.at for turn in self._store.unfinished]  # of a turn it writes at every sentence
        kept = await self._store.kept(ALIVE)
        if kept is not None:
            at = datetime.fromisoformat(kept["at"])
            counting = any(_counts_down(timer) and timer.set_at <= at for timer in await self._store.timers())
            known += [at] if kept["in_order"] or counting else []
            if kept["in_order"]:  # the next end may be another
                await self._store.keep(ALIVE, None)
        return max(known, default=None)

    async def _mark(self, running: Sequence[Timer]) -> None:
        """Keep that the room is on, once a minute and only while a countdown runs. Raises StoreError."""
        if elapsed() - self._marked >= LONGEST_WAIT_S and any(_counts_down(timer) for timer in running):
            self._marked = elapsed()
            await self._store.keep(ALIVE, {"at": utc_now().isoformat(), "in_order": False})

    async def _mark_stop(self) -> None:
        """Keep when the room is stopped in order, where there is anything to come meanwhile."""
        try:
            if await self._store.timers():
                await self._store.keep(ALIVE, {"at": utc_now().isoformat(), "in_order": True})
        except StoreError as error:
            log.error("when the room was stopped is not kept: %s", error.message)

    def _off_s(self) -> float | None:
        """Return for how many seconds the room was off before it was started, if that is known."""
        if self._off_since is None or elapsed() - self._started > RETURNED_S:
            return None
        return (utc_now() - self._off_since).total_seconds() - (elapsed() - self._started)

    # ------------------------------------------------------------------------------------------ inside

    def _begin(self, due: list[Timer]) -> None:
        """Ring what is due, with what rings already; tell what came due so long ago that ringing is of no use.

        Where some that came due while off still rings, it says of the rest as well: one sentence about all.
        """
        now = utc_now()
        late = [timer for timer in due if timer.id not in self._lengths and timer.due < self._known_since]
        old = [timer for timer in late if (now - timer.due).total_seconds() > RING_S[timer.kind]]
        fresh = [timer for timer in due if timer not in old]
        if any(timer in late for timer in fresh) and not self._is_quiet():
            fresh, old = due, []
        told = [] if self._is_quiet() else old
        self._rung |= {timer.id: timer.due for timer in (*fresh, *told)}
        if told:
            self._start(Ring(new_id(), told, now, self._off_s(), late=told, tells=True))
        ringing = next((ring for ring in self._rings.values() if not ring.tells), None)
        if ringing is None and fresh:
            ringing = Ring(new_id(), [], now, self._off_s())
        if ringing is None or not fresh:
            return
        ringing.timers += fresh
        ringing.late += [timer for timer in late if timer not in old]
        if ringing.id not in self._rings:
            self._start(ringing)
        elif ringing.until is not None:
            ringing.until = max(ringing.until, elapsed() + _bound(fresh))

    def _start(self, ring: Ring) -> None:
        self._rings[ring.id] = ring
        self._post(self._prompt(ring))

    def _prompt(self, ring: Ring) -> Prompt:
        return Prompt(self._text(ring), Source.SCHEDULE, verbatim=True, alarm=ring.id)

    def _text(self, ring: Ring) -> str:
        now = utc_now().astimezone(self._time_zone)
        if ring.tells and not ring.late:
            return announcing.missed(ring.timers, now, self._phrases)
        fresh = [timer for timer in ring.timers if timer not in ring.late]
        lines = []
        if ring.late:
            begun = ring.begun.astimezone(self._time_zone)
            lines.append(announcing.while_off(ring.late, begun, self._phrases, ring.off_s))
        return " ".join([*lines, *([announcing.ringing(fresh, now, self._phrases)] if fresh else [])])

    def _latest(self, within_s: float) -> Ring | None:
        """Return the ring that sounds, else the last if it is not over for longer than that."""
        for ring in self._rings.values():
            if not ring.tells and ring.until is not None:
                return ring
        last = self._last
        return last if last and last.ended is not None and elapsed() - last.ended <= within_s else None

    def _standing(self, timer: Timer) -> Timer | None:
        """Return a row as it stands after what has rung in this run; None where it will not ring again."""
        if timer.missed:
            return None
        rung = self._rung.get(timer.id)
        return timer if rung is None or timer.due > rung else self._next(timer)

    def _next(self, timer: Timer) -> Timer | None:
        if timer.repeat is None:
            return None
        due = next_time(timer.repeat, max(timer.due, utc_now()), self._time_zone)
        return timer.model_copy(update={"due": due})

    def _after(self, timers: Sequence[Timer]) -> tuple[list[Timer], list[Timer]]:
        """Return what is kept of some that have rung, as it is then, and what is not."""
        following = [(timer, self._next(timer)) for timer in timers]
        return [then for _, then in following if then], [timer for timer, then in following if then is None]

    async def _follow_clock(self) -> None:
        """Where the clock was set, let lengths go on for what they had left. Raises StoreError."""
        drift = utc_now().timestamp() - elapsed()
        jump, self._drift = drift - self._drift, drift
        if abs(jump) < JUMP_S:
            return
        log.warning("the clock was set by %+.0f s", jump)
        self._known_since = utc_now()
        by = timedelta(seconds=jump)
        running = [timer for timer in await self._store.timers() if timer.id in self._lengths and not timer.missed]
        moved = [timer.model_copy(update={"due": timer.due + by, "set_at": timer.set_at + by}) for timer in running]
        self._rung |= {timer.id: self._rung[timer.id] + by for timer in running if timer.id in self._rung}
        if moved:
            await self._store.save_timers(moved)


def _counts_down(timer: Timer) -> bool:
    return timer.seconds > 0 and timer.paused_s is None and not timer.missed


def _bound(timers: Sequence[Timer]) -> float:
    return max(RING_S[timer.kind] for timer in timers)


def _missed(timer: Timer) -> Timer:
    """Return what is kept of one that nobody heard; one that comes again stays beside it."""
    fresh = {"id": new_id(), "repeat": None} if timer.repeat else {}
    return timer.model_copy(update={"missed": True, **fresh})
