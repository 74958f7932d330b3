"""Alarms: once or again and again; and snoozing, of whatever rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.core.dialog import Timer, TimerKind
from roomtone.core.recurrence import Half, every, next_time, on_day
from roomtone.mind.moments import Moment, after, clock, days_of_week, due_of, moment, named_days, said_half, seconds
from roomtone.mind.skills import Asked, Heard, Match

SNOOZE_S = 9 * 60
"""What clock radios have given since the first of them."""

FORTNIGHT = 14

READ_OUT = 5
"""Alarms that are told one by one; of more the number is told."""


def accepts(heard: Heard) -> bool:
    """Refuse a name that is no name but a part of another sentence."""
    name = heard.match.get("any_name")
    return name is None or heard.phrases.is_name(str(name))


async def answer(asked: Asked) -> list[str]:
    """Do with the household's alarms what was asked."""
    name = asked.match.name
    if name == "snooze":
        return [await _snooze(asked)]
    if name == "set":
        return [await _set(asked, None)]
    alarms = [timer for timer in await asked.household.timers() if timer.kind is TimerKind.ALARM]
    if name in ("cancel", "cancel_all") and any(timer.kind is TimerKind.ALARM for timer in asked.household.rang()):
        return [asked.say("stopped")]
    found = _meant(asked, alarms) if name in ("cancel", "list") else alarms
    if not found:
        return [_none(asked, alarms)]
    if name == "list":
        return [_told(asked, found[:1] if asked.match.get("only") else found)]
    if name != "cancel_all" and len(found) > 1:
        return [_told(asked, found), asked.say("which")]
    return [await (_set(asked, found[0]) if name == "change" else _cancel(asked, found))]


async def _set(asked: Asked, old: Timer | None) -> str:
    """Set an alarm, in the place of an old one where there is one."""
    now, length = asked.household.now(), seconds(asked.match)
    if not length and clock(asked.match) is None:
        return asked.say("when")
    blind = not length and not asked.household.clock_is_right()
    if blind and (old is not None or named_days(asked.match, now)):
        return asked.say("no_clock")
    said = _morning(asked.match) if blind else asked.match
    when = Moment(after(now, length)) if length else moment(said, now, wakes=True)
    if old is not None:
        when = _on_its_days(asked, old)
    if when is None:
        return asked.say("over")
    if old is None:
        old = await _same(asked, when)
    fresh = {"due": when.due, "set_at": now, "repeat": when.repeat, "kind": TimerKind.ALARM, "seconds": length}
    alarm = old.model_copy(update=fresh) if old else Timer(name=_name(asked), **fresh)
    await asked.household.save_timers([alarm])
    if blind:
        time = asked.phrases.time(alarm.due.astimezone(now.tzinfo))
        return asked.say("set_blind", when=due_of(asked, alarm) if alarm.repeat else time)
    return asked.say("set_named" if alarm.name else "set", name=alarm.name, when=due_of(asked, alarm))


def _morning(match: Match) -> Match:
    """Return a sentence with the morning named where it named no half of the day: which is nearer nobody knows."""
    face = clock(match)
    named = face is None or not face.either or said_half(match, face) is not None
    return match if named else replace(match, slots=(*match.slots, ("half", Half.AM.value)))


async def _same(asked: Asked, when: Moment) -> Timer | None:
    """Return the alarm that is set for just that already: who asks twice wants one."""
    alarms = [timer for timer in await asked.household.timers() if timer.kind is TimerKind.ALARM]
    same = (
        alarm for alarm in alarms if (alarm.due, alarm.repeat, alarm.name) == (when.due, when.repeat, _name(asked))
    )
    return next(same, None)


def _on_its_days(asked: Asked, old: Timer) -> Moment | None:
    """Return the new time of an alarm on the day, or the days, that it has."""
    face, now = clock(asked.match), asked.household.now()
    zone = now.tzinfo
    assert face is not None
    assert isinstance(zone, ZoneInfo)
    face = face.at(said_half(asked.match, face) or Half.AM)
    if old.repeat:
        repeat = every(face, old.repeat.split()[4])
        return Moment(next_time(repeat, now, zone), repeat)
    due = on_day(face, old.due.astimezone(zone).date(), zone)
    return Moment(due) if due > now else moment(asked.match, now, wakes=True)


async def _cancel(asked: Asked, alarms: list[Timer]) -> str:
    if asked.match.name == "cancel" and alarms[0].repeat and (days := named_days(asked.match, asked.household.now())):
        return await _skip(asked, alarms[0], days)
    await asked.household.cancel_timers(alarms)
    if len(alarms) > 1:
        return asked.say("cancelled_all", count=asked.phrases.number(len(alarms)))
    name = alarms[0].name
    return asked.say("cancelled_named" if name else "cancelled", name=name, when=due_of(asked, alarms[0]))


async def _skip(asked: Asked, alarm: Timer, days: list[date]) -> str:
    """Leave out one day of an alarm that comes again and again; the others stay."""
    now = asked.household.now()
    assert alarm.repeat is not None
    assert isinstance(now.tzinfo, ZoneInfo)
    if alarm.due.astimezone(now.tzinfo).date() not in days:
        return asked.say("not_next", when=asked.phrases.when(alarm.due.astimezone(now.tzinfo), now))
    due = next_time(alarm.repeat, alarm.due, now.tzinfo)
    await asked.household.save_timers([alarm.model_copy(update={"due": due})])
    return asked.say("skipped", when=asked.phrases.when(due.astimezone(now.tzinfo), now))


async def _snooze(asked: Asked) -> str:
    length = seconds(asked.match) or SNOOZE_S
    if not await asked.household.snooze(length):
        return asked.say("nothing_rings")
    return asked.say("snoozed", duration=asked.phrases.duration(length))


def _name(asked: Asked) -> str:
    return str(asked.match.get("any_name") or "")


def _meant(asked: Asked, alarms: list[Timer]) -> list[Timer]:
    """Return the alarms of the name, at the time and on the day that were named; all where nothing was."""
    face, now = clock(asked.match), asked.household.now()
    if _name(asked):
        alarms = [alarm for alarm in alarms if alarm.name.lower() == _name(asked).lower()]
    if face is not None:
        half = said_half(asked.match, face)
        hours = {int(hour) for hour in (face.at(half) if half else face).hours.split(",")}
        at = [(alarm, alarm.due.astimezone(now.tzinfo)) for alarm in alarms]
        alarms = [alarm for alarm, due in at if due.hour in hours and due.minute == face.minute]
    weekly, days = days_of_week(asked.match), named_days(asked.match, now)
    if weekly:
        return [alarm for alarm in alarms if alarm.repeat and alarm.repeat.split()[4] == weekly]
    return [alarm for alarm in alarms if not days or set(days) & _coming(alarm, now)]


def _coming(alarm: Timer, now: datetime) -> set[date]:
    """Return the days of a fortnight on which an alarm rings."""
    zone = now.tzinfo
    assert isinstance(zone, ZoneInfo)
    due, end = alarm.due, now + timedelta(FORTNIGHT)
    days = {due.astimezone(zone).date()}
    while alarm.repeat and due < end:
        due = next_time(alarm.repeat, due, zone)
        days.add(due.astimezone(zone).date())
    return days


def _none(asked: Asked, alarms: list[Timer]) -> str:
    face = clock(asked.match)
    if _name(asked):
        return asked.say("none_named", name=_name(asked))
    if face is not None and asked.match.name == "cancel":
        at = asked.household.now().replace(hour=face.hour % 24, minute=face.minute)
        return asked.say("none_then", time=asked.phrases.time(at))
    return asked.say("none_that_day" if alarms else "none")


def _told(asked: Asked, alarms: Sequence[Timer]) -> str:
    if len(alarms) == 1:
        key = "one_named" if alarms[0].name else "one"
        return asked.say(key, name=alarms[0].name, when=due_of(asked, alarms[0]))
    whens = [_named(asked, alarm) for alarm in alarms[:READ_OUT]]
    more = len(alarms) - len(whens)
    rest = [asked.say("more", count=asked.phrases.number(more)).lower()] if more else []
    return asked.say("several", count=asked.phrases.number(len(alarms)), whens=asked.phrases.joined([*whens, *rest]))


def _named(asked: Asked, alarm: Timer) -> str:
    when = due_of(asked, alarm)
    told = asked.say("told_named", name=alarm.name, when=when) if alarm.name else when
    return told[:1].lower() + told[1:]
