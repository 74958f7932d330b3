"""What comes round by itself: what a schedule or an event does, and which of its times are to be run when.

A schedule's time is run once. Which ones were is kept as ``Span``s: on a clock that only goes on there is one, which
grows; each jump of the clock to where the schedule had not been yet begins another. What a span holds is not run
again when the clock is set back into it. A clock that was wrong by years leaves a span that lies years ahead, and
silences nothing today.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSimError
from pydantic import AfterValidator, Field, model_validator

from roomtone.core.dialog import Noun, Source
from roomtone.core.recurrence import next_time
from roomtone.core.signals import Prompt, Signal, Switch

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""As crontab(5) has them; @reboot is no time."""

FIELDS = 5

SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
"""From here on a schedule is looked for that never comes."""


def cron(text: str) -> str:
    """Return a cron expression as its five fields. Raises ValueError for one that is none, or that never comes."""
    fields = MACROS.get(text.strip().lower(), text).split()
    if fields[:1] and fields[0].startswith("@"):
        raise ValueError(f"is no schedule; choose one of {', '.join(MACROS)}")
    if len(fields) != FIELDS:
        raise ValueError(
            f"has {len(fields)} fields instead of 5: minute, hour, day, month and weekday, as in '30 19 * * *'"
        )
    expression = " ".join(fields)
    try:
        next_time(expression, SOME_DAY, ZoneInfo("UTC"))
    except CronSimError as error:
        raise ValueError(f"is no schedule ({error}); write it as in '30 19 * * *'") from error
    except StopIteration:
        raise ValueError("never comes; write it as in '30 19 * * *'") from None
    return expression


def _words(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write a sentence, or leave the key out")
    return text


def _id(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", text):
        raise ValueError("is no id of a persona or a routine; use a-z, 0-9, _ and -")
    return text


Cron = Annotated[str, AfterValidator(cron)]
Words = Annotated[str, AfterValidator(_words), Field(max_length=10_000)]


class Action(Noun):
    """What a schedule, an event or a button does.

    In this order: speak as ``persona``, ``say`` a text as it is, answer what it is told to ``ask``, run a
    ``routine``, let the conversation go on in another room (``handoff``), and keep quiet hours for ``quiet_min``
    minutes (0 ends them).

    In quiet hours its words wait until those are over, unless it is ``urgent``.
    """

    persona: Annotated[str, AfterValidator(_id)] | None = None
    say: Words | None = None
    ask: Words | None = None
    routine: Annotated[str, AfterValidator(_id)] | None = None
    handoff: Words | None = None
    quiet_min: int | None = Field(None, ge=0, le=24 * 60)
    urgent: bool = False

    @property
    def does_something(self) -> bool:
        """Whether it does anything at all."""
        rest = (self.say, self.ask, self.routine, self.handoff, self.quiet_min)
        return any(each is not None for each in (self.persona, *rest))

    @model_validator(mode="after")
    def _is_one(self) -> Action:
        if not self.does_something:
            raise ValueError("does nothing; give it persona, say, ask, routine, handoff or quiet_min")
        return self

    def switch(self, source: Source, cause: str) -> list[Signal]:
        """Return the change of persona that it asks for, if it does."""
        return [Switch(self.persona, source, cause)] if self.persona is not None else []

    def words(self, source: Source, ticket: str | None = None) -> list[Prompt]:
        """Return what it says, asks and runs; the last bears the ``ticket``."""
        said = [Prompt(self.say, source, verbatim=True)] if self.say is not None else []
        asked = [Prompt(self.ask, source)] if self.ask is not None else []
        run = [Prompt("", source, routine=self.routine)] if self.routine is not None else []
        words = [*said, *asked, *run]
        return [*words[:-1], *(replace(last, ticket=ticket) for last in words[-1:])]


class Missed(StrEnum):
    """What becomes of a time that came while the room was off."""

    DROP = "drop"
    MAKE_UP = "make_up"


class Schedule(Action):
    """An action that comes round at the times that a cron expression names, on the household's clock.

    Of those it ``missed`` the last is made up for once, if it is not older than ``MAKE_UP``, or all are dropped.
    """

    cron: Cron
    missed: Missed = Missed.DROP


# ------------------------------------------------------------------------------------- what is run when

ON_TIME = timedelta(minutes=1)
"""A time that is found so much later is on time: the room was busy, or was being started."""

MAKE_UP = timedelta(days=1)
"""A time that was missed so long ago is not made up for: the next has come."""

SET_BACK = timedelta(days=1)
"""What was run is not run again where the clock is set back by so much; by more, it was wrong before or is now."""

SPANS = 8
"""Spans that are kept of a schedule: so many jumps of the clock are remembered."""


class Span(Noun):
    """Times of a schedule of which each was run: from the ``first`` to the ``last``."""

    first: datetime
    last: datetime

    def holds(self, at: datetime) -> bool:
        """Say whether a time was run, as far as it matters."""
        return self.first <= at <= self.last and self.last - at <= SET_BACK


class Past(Noun):
    """What was run of a schedule with this ``cron`` ``since`` it was first seen.

    ``begun``: of the last run nothing had been heard yet.
    """

    cron: str
    since: datetime
    spans: tuple[Span, ...] = ()
    begun: bool = False

    def ran(self, at: datetime) -> bool:
        """Say whether a time was run, as far as it matters."""
        return any(span.holds(at) for span in self.spans)

    def until(self, now: datetime) -> datetime:
        """Return the moment up to which nothing can have been missed, ``now`` where the clock knows of none."""
        known = (self.since, *(span.last for span in self.spans))
        return max((at for at in known if at <= now), default=now)

    def with_run(self, at: datetime, zone: ZoneInfo, *, begun: bool) -> Past:
        """Return this with one more run: in the span that it follows on, else in a new one; that comes last."""
        ends = [
            span for span in self.spans if span.last == at or span.last < at == next_time(self.cron, span.last, zone)
        ]
        first = min((span.first for span in ends), default=at)
        others = [span for span in self.spans if span not in ends]
        spans = [*others, Span(first=first, last=at)]
        return self.model_copy(update={"spans": tuple(spans[-SPANS:]), "begun": begun})


def due(schedule: Schedule, past: Past, seen: datetime, now: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the time that is to be run ``now``, nothing having been missed up to ``seen``; None where none is.

    Of several the last is run. All but ``zone`` are moments; a ``seen`` that is not over yet counts for nothing.
    """
    since = max(at for at in (min(seen, now), past.since, now - MAKE_UP) if at <= now)
    last = None
    at = next_time(schedule.cron, since, zone)
    while at <= now:
        last, at = at, next_time(schedule.cron, at, zone)
    if last is None or past.ran(last):
        return None
    return last if now - last <= ON_TIME or schedule.missed is Missed.MAKE_UP else None
