"""When a time of day comes next, once or again and again: on the household's clock, through both ends of summer time.

A time that the clocks skip comes at the first moment after the gap; one that they repeat comes once, the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from cronsim import CronSim

EVERY_DAY = "*"
"""Days of the week are given as cron writes them; Sunday is 0."""


class Half(StrEnum):
    """Which of a day's two times a clock face means."""

    AM = "am"
    PM = "pm"
    WAKING = "waking"
    """Nobody said; the likelier: seven to eleven in the morning, twelve to six in the afternoon."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day as it was said: ``hour`` 0 to 23; with ``either``, 1 to 12 in one or the other half of a day."""

    hour: int
    minute: int = 0
    either: bool = False

    def at(self, half: Half) -> Clock:
        """Return the time in one half of the day; one that is not on a clock face stays as it is."""
        if not self.either:
            return self
        if half is Half.WAKING:
            half = Half.AM if 7 <= self.hour < 12 else Half.PM
        return Clock(self.hour % 12 + (12 if half is Half.PM else 0), self.minute)

    @property
    def hours(self) -> str:
        """The hours in question as cron writes them."""
        return f"{self.hour % 12},{self.hour % 12 + 12}" if self.either else str(self.hour)


def every(clock: Clock, days: str = EVERY_DAY) -> str:
    """Return the cron expression of a time of day on some days of the week."""
    return f"{clock.minute} {clock.hours} * * {days}"


def next_time(repeat: str, after: datetime, zone: ZoneInfo) -> datetime:
    """Return in UTC the first time that a cron expression names after a moment.

    Raises CronSimError for an expression that is none, StopIteration for one that never comes (in fifty years).
    """
    times = CronSim(repeat, after.astimezone(zone))
    while (found := next(times).astimezone(UTC)) <= after:
        pass  # in the second of two equal hours cronsim names the first's times again
    return found


def on_day(clock: Clock, day: date, zone: ZoneInfo) -> datetime:
    """Return in UTC the first moment of a day at which a clock shows a time."""
    before = datetime.combine(day, time(), zone) - timedelta(seconds=1)
    return next_time(f"{clock.minute} {clock.hours} {day.day} {day.month} *", before, zone)
