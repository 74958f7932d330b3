"""Alarms: once or again and again; and snoozing, of whatever rings."""

from __future__ import annotations

from collections.abc import Sequence

from roomtone.core.dialog import Timer, TimerKind
from roomtone.mind.moments import Moment, after, clock, moment, seconds
from roomtone.mind.skills import Asked

SNOOZE_S = 9 * 60
"""What clock radios have given since the first of them."""

READ_OUT = 5
"""Alarms that are told one by one; of more the number is told."""


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
    found = _meant(asked, alarms) if name == "cancel" else alarms
    if not found:
        return [_none(asked)]
    if name == "list":
        return [_told(asked, found)]
    if name != "cancel_all" and len(found) > 1:
        return [_told(asked, found), asked.say("which")]
    return [await (_set(asked, found[0]) if name == "change" else _cancel(asked, found))]


async def _set(asked: Asked, old: Timer | None) -> str:
    """Set an alarm, in the place of an old one where there is one."""
    now, length = asked.household.now(), seconds(asked.match)
    if not length and clock(asked.match) is None:
        return asked.say("when")
    if not length and not asked.household.clock_is_right():
        return asked.say("no_clock")
    when = Moment(after(now, length)) if length else moment(asked.match, now, wakes=True)
    if when is None:
        return asked.say("over")
    fresh = {"due": when.due, "set_at": now, "repeat": when.repeat, "kind": TimerKind.ALARM, "seconds": length}
    alarm = old.model_copy(update=fresh) if old else Timer(**fresh)
    await asked.household.save_timers([alarm])
    return asked.say("set", when=_when(asked, alarm))


async def _cancel(asked: Asked, alarms: list[Timer]) -> str:
    await asked.household.cancel_timers(alarms)
    if len(alarms) > 1:
        return asked.say("cancelled_all", count=asked.phrases.number(len(alarms)))
    return asked.say("cancelled", when=_when(asked, alarms[0]))


async def _snooze(asked: Asked) -> str:
    length = seconds(asked.match) or SNOOZE_S
    if not await asked.household.snooze(length):
        return asked.say("nothing_rings")
    return asked.say("snoozed", duration=asked.phrases.duration(length))


def _meant(asked: Asked, alarms: list[Timer]) -> list[Timer]:
    """Return the alarms at the time that was named, on its day where one was; all where none was."""
    face = clock(asked.match)
    if face is None:
        return alarms
    zone = asked.household.now().tzinfo
    hours = {int(hour) for hour in face.hours.split(",")}
    at = [(timer, timer.due.astimezone(zone)) for timer in alarms]
    found = [timer for timer, due in at if due.hour in hours and due.minute == face.minute]
    when = moment(asked.match, asked.household.now(), wakes=True)
    exact = [timer for timer in found if when and timer.due == when.due]
    return exact if exact else found


def _none(asked: Asked) -> str:
    face = clock(asked.match)
    if asked.match.name != "cancel" or face is None:
        return asked.say("none")
    at = asked.household.now().replace(hour=face.hour, minute=face.minute)
    return asked.say("none_then", time=asked.phrases.time(at))


def _told(asked: Asked, alarms: Sequence[Timer]) -> str:
    whens = [_when(asked, alarm) for alarm in alarms[:READ_OUT]]
    if len(whens) == 1:
        return asked.say("one", when=whens[0])
    more = len(alarms) - len(whens)
    rest = [asked.say("more", count=asked.phrases.number(more)).lower()] if more else []
    return asked.say("several", count=asked.phrases.number(len(alarms)), whens=asked.phrases.joined([*whens, *rest]))


def _when(asked: Asked, alarm: Timer) -> str:
    """Return when an alarm rings, with its days where it comes again."""
    now = asked.household.now()
    due = alarm.due.astimezone(now.tzinfo)
    if alarm.repeat is None:
        return asked.phrases.when(due, now)
    return asked.phrases.repeated(due, alarm.repeat.split()[4])
