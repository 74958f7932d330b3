"""What is to ring: timers, alarms and reminders. A persona sets and sees those kinds that its ``tools`` name."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from roomtone.core.dialog import Noun, Timer, TimerKind
from roomtone.core.errors import ToolError
from roomtone.core.recurrence import EVERY_DAY, Clock, every, next_time, on_day
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.moments import after
from roomtone.mind.tools.allowed import allowed
from roomtone.mind.tools.built_in import Nothing, built_in

WEEK_S = 7 * 24 * 3600

AT = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)(?::00)?")

DAYS = {"day": EVERY_DAY, "weekday": "1-5", "weekend": "0,6"}

SHORTEST_ID = 4


class NewTimer(Noun):
    """What to set: in so many seconds, or at a time of day."""

    kind: Literal["timer", "alarm", "reminder"] = "timer"
    seconds: int = Field(0, ge=0, le=WEEK_S, description="from now, or:")
    at: str = Field("", max_length=20, description="HH:MM or YYYY-MM-DD HH:MM, local")
    every: Literal["", "day", "weekday", "weekend"] = ""
    name: str = Field("", max_length=200, description="its name, or what to remind of")

    @model_validator(mode="after")
    def _whole(self) -> NewTimer:
        if bool(self.seconds) is bool(self.at):
            raise ValueError("give seconds or at, one of them")
        if self.at and not AT.fullmatch(self.at.strip()):
            raise ValueError("at: write it as 07:30 or 2026-12-24 18:00")
        if self.every and "-" in (self.at or "-"):
            raise ValueError("every: needs at as HH:MM")
        if self.kind == "reminder" and not self.name.strip():
            raise ValueError("name: say what to remind of")
        return self


class Which(Noun):
    """One of what is set, or all."""

    which: str = Field(min_length=1, max_length=200, description="name, id, kind or all")


class Kept(Noun):
    """Timers as they were."""

    timers: tuple[Timer, ...] = Field(max_length=200)


@built_in("timer.set", "Set a timer, alarm or reminder", NewTimer, changes=True)
async def set_timer(wanted: NewTimer, house: Household) -> Result:
    """Set it, and tell when it rings."""
    if not allowed(house.persona, f"{wanted.kind}.set"):
        raise ToolError(f"{house.persona.name} sets no {wanted.kind}s")
    if wanted.at and not house.clock_is_right():
        raise ToolError("the clock is not set, so only seconds can be counted")
    now = house.now()
    due, repeat = (after(now, wanted.seconds), None) if wanted.seconds else _at(wanted, now)
    if due <= now:
        raise ToolError(f"{wanted.at} is over: it is {now:%Y-%m-%d %H:%M}")
    kind = TimerKind(wanted.kind)
    timer = Timer(kind=kind, name=wanted.name.strip(), seconds=wanted.seconds, set_at=now, due=due, repeat=repeat)
    await house.save_timers([timer])
    return Result(f"set: {_told(timer, now)}", undo=("timer.cancel", {"which": timer.id}))


def _at(wanted: NewTimer, now: datetime) -> tuple[datetime, str | None]:
    """Return when a time of day comes next, in UTC, and the cron expression of one that comes again and again."""
    found, zone = AT.fullmatch(wanted.at.strip()), now.tzinfo
    assert found is not None
    assert isinstance(zone, ZoneInfo)
    day, hour, minute = found.group(1), int(found.group(2)), int(found.group(3))
    try:
        clock = Clock(hour, minute)
        now.replace(hour=hour, minute=minute)
        if day:
            return on_day(clock, datetime.fromisoformat(day).date(), zone), None
    except (ValueError, StopIteration) as error:
        raise ToolError(f"there is no {wanted.at}") from error
    repeat = every(clock, DAYS[wanted.every]) if wanted.every else None
    return next_time(repeat or every(clock), now, zone), repeat


@built_in("timer.list", "What is to ring")
async def list_timers(_: Nothing, house: Household) -> Result:
    """Tell what is to ring, the next first."""
    timers, now = await _mine(house), house.now()
    return Result("; ".join(_told(timer, now) for timer in timers) or "nothing is set")


@built_in("timer.cancel", "Cancel one of them", Which, changes=True)
async def cancel_timer(wanted: Which, house: Household) -> Result:
    """Cancel the one that is meant, or all."""
    timers, now = await _mine(house), house.now()
    found = _meant(wanted.which.strip().casefold(), timers)
    if not found:
        raise ToolError(f"none of that name; set: {'; '.join(_told(timer, now) for timer in timers) or 'nothing'}")
    if len(found) > 1 and wanted.which.strip().casefold() != "all":
        raise ToolError(f"several; name the id of one: {'; '.join(_told(timer, now) for timer in found)}")
    await house.cancel_timers(found)
    kept = {"timers": [timer.model_dump(mode="json") for timer in found]}
    return Result(f"cancelled: {'; '.join(_told(timer, now) for timer in found)}", undo=("timer.restore", kept))


@built_in("timer.restore", "Set again what was cancelled", Kept, changes=True)
async def restore_timers(wanted: Kept, house: Household) -> Result:
    """Set what was cancelled again, but for what would have rung meanwhile."""
    now = house.now()
    ahead = [timer for timer in wanted.timers if timer.due > now or timer.paused_s is not None]
    if not ahead:
        raise ToolError("it would have rung already")
    await house.save_timers(ahead)
    return Result(f"set again: {'; '.join(_told(timer, now) for timer in ahead)}")


async def _mine(house: Household) -> list[Timer]:
    """Return what is to ring of the kinds that this persona may touch."""
    return [timer for timer in await house.timers() if allowed(house.persona, f"{timer.kind.value}.set")]


def _meant(which: str, timers: list[Timer]) -> list[Timer]:
    if which == "all":
        return timers
    named = [timer for timer in timers if timer.name.casefold() == which]
    by_id = [timer for timer in timers if len(which) >= SHORTEST_ID and timer.id.startswith(which)]
    return named or by_id or [timer for timer in timers if timer.kind == which]


def _told(timer: Timer, now: datetime) -> str:
    at = timer.due.astimezone(now.tzinfo)
    when = f"in {timer.paused_s} s once it goes on" if timer.paused_s is not None else f"{at:%A %Y-%m-%d %H:%M:%S}"
    if not timer.repeat and timer.paused_s is None:
        when += f", in {max(0, round((timer.due - now).total_seconds()))} s"
    again = f", again on cron {timer.repeat}" if timer.repeat else ""
    name = f" '{timer.name}'" if timer.name else ""
    return f"{timer.kind.value}{name} {when}{again} (id {timer.id[: SHORTEST_ID + 2]})"


TOOLS = (set_timer, list_timers, cancel_timer)
TAKING_BACK = (restore_timers,)
