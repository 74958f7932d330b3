"""From the slots of a sentence to lengths of time and moments, and back: what "tomorrow at seven" means just now.

A time without "a.m." or "p.m." is the next one that comes; on a named day, and where it comes again and again, it is
the morning's for an alarm, and for anything else the likelier of the two (``Half.WAKING``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.core.dialog import Timer
from roomtone.core.recurrence import Clock, Half, every, next_time, on_day
from roomtone.mind.phrases import NIGHT_S
from roomtone.mind.skills import Asked, Match

YEARS = 8
"""How far ahead a date is looked for: until the next 29th of February."""

WAKING_HOUR = 6
"""Before this hour nobody wants to be reminded who has not said so, or is still up."""

LATE_HOUR = 5
""""At night" is the evening from this hour on a clock's face, and before it the night that follows."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is to ring: ``due`` in UTC, and again at each time that the cron expression names."""

    due: datetime
    repeat: str | None = None


def seconds(match: Match) -> int:
    """Return the length of time that was named, in seconds; 0 where none was."""
    return match.total("hours") * 3600 + match.total("minutes") * 60 + match.total("seconds")


def after(now: datetime, length: int) -> datetime:
    """Return in UTC the moment so many seconds later, through both ends of summer time."""
    return now.astimezone(UTC) + timedelta(seconds=length)  # a sum in the household's zone is one of clock faces


def clock(match: Match) -> Clock | None:
    """Return the time of day that was named, if one was."""
    named = match.get("clock")
    if named is not None:
        return Clock(*divmod(int(named), 60))
    if match.get("hour") is None:
        return None
    hour, minutes = int(match.get("hour")), match.total("minute") - match.total("until")
    if not 1 <= hour <= 12:
        return Clock(*divmod((hour * 60 + minutes) % (24 * 60), 60))
    hour, minute = divmod((hour % 12 * 60 + minutes) % (12 * 60), 60)
    return Clock(hour or 12, minute, either=True)


def moment(match: Match, now: datetime, *, wakes: bool = False) -> Moment | None:
    """Return when a sentence means, ``now`` being in the household's zone and ``wakes`` said of an alarm.

    None where no time was named, or one that is over or never comes.
    """
    face = clock(match)
    if face is None:
        return None
    zone = now.tzinfo
    assert isinstance(zone, ZoneInfo)
    half = said_half(match, face)
    usual = half or (Half.AM if wakes else Half.WAKING)
    days = days_of_week(match)
    if days:
        repeat = every(face.at(usual), days)
        return Moment(next_time(repeat, now, zone), repeat)
    if not _names_a_day(match):
        due = next_time(every(face.at(half) if half else face), now, zone)
        asleep = not wakes and half is None and face.either and due.astimezone(zone).hour < WAKING_HOUR
        if asleep and due - now > timedelta(seconds=NIGHT_S):
            due = next_time(every(face), due, zone)
        return Moment(due)
    today = match.get("day") in ("today", "tonight")
    for day in _days(match, face, now):
        for choice in (half,) if half else (usual, Half.AM, Half.PM) if today else (usual,):
            due = on_day(face.at(choice), day, zone)
            if due > now:
                return Moment(due)
    return None


def due_of(asked: Asked, timer: Timer) -> str:
    """Return in words when something is to ring, with its days where it comes again."""
    now = asked.household.now()
    due = timer.due.astimezone(now.tzinfo)
    if timer.repeat is None:
        return asked.phrases.when(due, now)
    return asked.phrases.repeated(due, timer.repeat.split()[4])


def said_half(match: Match, face: Clock) -> Half | None:
    """Return the half of the day that was named, or that the part of it which was named lies in."""
    said = match.get("half")
    if said:
        return Half(said)
    part = match.get("part") or ("night" if match.get("day") == "tonight" else None)
    if part is None:
        return None
    late = part in ("afternoon", "evening") or (part == "night" and not _small_hour(face))
    return Half.PM if late else Half.AM


def days_of_week(match: Match) -> str | None:
    """Return the days of the week on which it comes again, as cron writes them."""
    named = sorted({int(value) for name, value in match.slots if name == "each"})
    return ",".join(map(str, named)) or match.get("every")


def _names_a_day(match: Match) -> bool:
    return any(match.get(slot) is not None for slot in ("day", "weekday", "date"))


def named_days(match: Match, now: datetime) -> list[date]:
    """Return the days that may be meant where a single day was named, else none."""
    return list(_days(match, Clock(12), now)) if _names_a_day(match) else []


def _days(match: Match, face: Clock, now: datetime) -> Iterator[date]:
    """Yield the days that may be meant, the likeliest first; who is up after midnight means the day before."""
    if match.get("date") is not None:
        for year in range(now.year, now.year + YEARS + 1):
            yield from _dates(year, int(match.get("month")), int(match.get("date")))
        return
    if match.get("weekday") is not None:
        first = now.date() + timedelta((int(match.get("weekday")) - 1 - now.weekday()) % 7)
        days = [first, first + timedelta(7)]
    else:
        today = (now - timedelta(seconds=NIGHT_S)).date()
        ahead = {"tomorrow": 1, "overmorrow": 2}.get(match.get("day"))
        days = [today + timedelta(ahead)] if ahead else [today, now.date()]
    night = match.get("part") == "night" or match.get("day") == "tonight"
    yield from (day + timedelta(night and _small_hour(face)) for day in days)


def _small_hour(face: Clock) -> bool:
    """Whether a time at night is one after midnight."""
    return (face.hour % 12 if face.either else face.hour) < LATE_HOUR


def _dates(year: int, month: int, day: int) -> Iterator[date]:
    try:
        yield date(year, month, day)
    except ValueError:
        return
