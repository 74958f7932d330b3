"""Days: how many until one, which weekday it is, when a holiday falls."""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime, timedelta
from typing import Any

from dateutil.easter import easter
from dateutil.relativedelta import relativedelta

from roomtone.mind.numbers import in_digits
from roomtone.mind.skills import Asked, Heard

LONGEST = 60
"""Characters of a date."""

A_YEAR_OFF = 180
"""Days from which on a date in another year is said with that year."""

LEAP_YEARS = 8
"""Within so many years there is always a leap year."""


def accepts(heard: Heard) -> bool:
    """Say whether what stands for a date or a year is one."""
    if heard.match.get("year") is not None:
        return _year(heard) is not None
    said = heard.match.get("date")
    try:
        return said is None or day(heard, str(said), date(2000, 1, 1)) is not None
    except (OverflowError, ValueError):
        return True


async def answer(asked: Asked) -> list[str]:
    """Count the days, or name the day."""
    name, today = asked.match.name, asked.household.now().date()
    if name != "unknown" and not asked.household.clock_is_right():
        return [asked.say("no_date")]
    try:
        if name == "week":
            return [asked.say("week", week=asked.phrases.number(today.isocalendar().week))]
        if name == "unknown":
            return [asked.say("unknown", own_day=asked.match.get("own_day"))]
        if name == "leap":
            return [_leap(asked, today)]
        past = name in ("since", "which_day_was")
        meant = day(asked, str(asked.match.get("date")), today, past=past)
        assert meant is not None
        return [_told(asked, meant, today)]
    except (OverflowError, ValueError):
        return [asked.say("too_far")]


def day(heard: Heard, said: str, today: date, *, past: bool = False) -> date | None:
    """Return the day that a text names, the nearest to come or the last gone by; None where it names none.

    Raises ValueError or OverflowError for a day that is in no calendar.
    """
    data = heard.data
    if len(said) > LONGEST:
        return None
    text = in_digits(re.sub(r"['’.?]", "", said.lower()), heard.phrases.language.language)
    past = past or bool(re.search(data["past"], text))
    text = re.sub(data["past"], "", text)
    while (shorter := re.sub(data["leave_off"], "", text)) != text:
        text = shorter
    if text in data["near"]:
        return today + timedelta(days=data["near"][text])
    if (holiday := _holiday(data, text, today)) is not None:
        named, year = holiday
        return _held(named, year) if year else _nearest(lambda year: _held(named, year), today, past)
    for shape in data["shapes"]:
        found = re.fullmatch(shape, text)
        if found and (meant := _read(heard, found.groupdict(), today, past)) is not None:
            return meant
    return None


def _holiday(data: Any, text: str, today: date) -> tuple[Any, int | None] | None:
    """Return the holiday that a text names, and its year where it names one."""
    found = re.fullmatch(r"(.+?)(?: (?:in )?(?:(\d{4})|(\d\d) (\d\d)|(this year)|(next year)))?", text)
    if found is None or found[1] not in data["holidays"]:
        return None
    written = found[2] or (found[3] and found[3] + found[4])
    year = int(written) if written else today.year if found[5] else today.year + 1 if found[6] else None
    return data["holidays"][found[1]], year


def _held(holiday: Any, year: int) -> date:
    """Return the day of a holiday in a year."""
    if isinstance(holiday, str):
        month, number = map(int, holiday.split("-"))
        return date(year, month, number)
    if isinstance(holiday, int):
        sunday: date = easter(year)
        return sunday + timedelta(days=holiday)
    which, weekday, month = holiday
    days = [week[weekday - 1] for week in calendar.monthcalendar(year, month) if week[weekday - 1]]
    return date(year, month, days[which - 1 if which > 0 else which])


def _nearest(held: Any, today: date, past: bool) -> date:
    """Return the next day of those that ``held`` gives for a year, or with ``past`` the last."""
    years = range(today.year, today.year - 9, -1) if past else range(today.year, today.year + 9)
    for year in years:
        try:
            found: date = held(year)
        except ValueError:  # the 29th of February has not every year
            continue
        if (found <= today) if past else (found >= today):
            return found
    raise ValueError("no such day")


def _read(heard: Heard, named: dict[str, str | None], today: date, past: bool) -> date | None:
    """Return the day that the parts of a date make; None where a name in it is no month or weekday."""
    count, unit = named.get("count"), named.get("unit")
    start = today
    if named.get("weekday"):
        weekdays = [weekday.casefold() for weekday in heard.phrases.language.weekdays]
        if named["weekday"] not in weekdays:
            return None
        away = (weekdays.index(str(named["weekday"])) - today.weekday()) % 7
        start = today + timedelta(days=(away - 7 if past else away or 7))
    if count and unit:
        many = int(count) if count.isdecimal() else 1
        many = -many if named.get("ago") else many
        if unit in heard.data["days"]:
            return start + timedelta(days=many * heard.data["days"][unit])
        later: date = start + relativedelta(months=many * heard.data["months"][unit])
        return later
    return start if named.get("weekday") else _in_a_month(heard, named, today, past)


def _in_a_month(heard: Heard, named: dict[str, str | None], today: date, past: bool) -> date | None:
    number, month, year = int(named["day"] or 1), named.get("month"), named.get("year")
    if month is None:
        start = today.replace(day=1)
        months: list[date] = [start + relativedelta(months=-away if past else away) for away in range(3)]
        fits = [
            first.replace(day=number) for first in months if number <= calendar.monthrange(first.year, first.month)[1]
        ]
        return next(found for found in fits if (found <= today if past else found >= today))
    months_named = [name.casefold() for name in heard.phrases.language.months]
    if not month.isdecimal() and month not in months_named:
        return None
    at = int(month) if month.isdecimal() else months_named.index(month) + 1
    if year:
        return date(int(year.replace(" ", "")), at, number)
    return _nearest(lambda year: date(year, at, number), today, past)


def _told(asked: Asked, meant: date, today: date) -> str:
    name, away = asked.match.name, (meant - today).days
    written = _date(asked, meant, today)
    if name == "when":
        return asked.say("when", date=written)
    if name in ("which_day", "which_day_was"):
        key = "which_day_was" if away < 0 else "which_day"
        return asked.say(key, weekday=asked.phrases.weekday(_noon(meant)))
    near = {0: "today", 1: "tomorrow", -1: "yesterday"}.get(away)
    if near:
        return asked.say(near, date=written)
    wrong_way = "over" if name == "until" and away < 0 else "ahead" if name == "since" and away > 0 else None
    return asked.say(wrong_way or name, count=_count(asked, abs(away)), date=written)


def _date(asked: Asked, meant: date, today: date) -> str:
    words = asked.phrases.date(_noon(meant))
    if meant.year == today.year or abs((meant - today).days) < A_YEAR_OFF:
        return words
    return asked.say("with_year", date=words, year=asked.phrases.year(meant.year))


def _noon(meant: date) -> datetime:
    return datetime(meant.year, meant.month, meant.day, 12)  # noqa: DTZ001 - only its date is read


def _count(asked: Asked, days: int) -> str:
    """Return a number of days in words, in weeks where weeks were asked for."""
    weeks, rest = divmod(days, 7) if asked.match.get("in") == "weeks" else (0, days)
    parts = {"weeks": weeks, "days": rest}
    said = {
        unit: asked.phrases.texts[f"{unit}_one"] if count == 1 else asked.say(unit, count=asked.phrases.number(count))
        for unit, count in parts.items()
        if count
    }
    if len(said) == 2:
        return asked.say("both", weeks=said["weeks"], days=str(said["days"]).lower())
    return str(next(iter(said.values())))


def _year(heard: Heard) -> int | None:
    text = in_digits(str(heard.match.get("year")), heard.phrases.language.language).replace(" ", "")
    return int(text) if text.isdecimal() and len(text) <= 4 and int(text) else None


def _leap(asked: Asked, today: date) -> str:
    year = _year(asked) if asked.match.get("year") is not None else today.year
    assert year is not None
    after = next(later for later in range(year + 1, year + 1 + LEAP_YEARS) if calendar.isleap(later))
    key = "leap" if calendar.isleap(year) else "no_leap"
    return asked.say(key, year=asked.phrases.year(year), next=asked.phrases.year(after))
