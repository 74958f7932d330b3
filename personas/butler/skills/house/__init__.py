"""How the house stands, in one short answer; and an alarm for everyone in it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby

from roomtone.core.dialog import Timer, TimerKind
from roomtone.mind.moments import due_of, moment
from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Report, or set the alarm."""
    return [await (_wake(asked) if asked.match.name == "wake" else _report(asked))]


async def _report(asked: Asked) -> str:
    pending = await asked.household.timers()
    parts = [
        _told(asked, kind, [timer for timer in pending if timer.kind is kind])
        for kind in (TimerKind.TIMER, TimerKind.ALARM, TimerKind.REMINDER)
    ]
    state = asked.say("between").join(filter(None, [*parts, *await _lists(asked)])) or asked.say("quiet")
    return asked.say("report", time=asked.phrases.time(asked.household.now()), state=state[:1].upper() + state[1:])


def _told(asked: Asked, kind: TimerKind, timers: list[Timer]) -> str:
    """Return what is to ring of one kind: the next of it, and how many there are."""
    if not timers:
        return ""
    first = timers[0]
    several = f"{kind.value}s" if len(timers) > 1 else kind.value
    named = kind is TimerKind.TIMER and first.name and len(timers) == 1
    values = {
        "count": asked.phrases.number(len(timers)),
        "name": first.name,
        "duration": asked.phrases.duration(_left(asked, first)),
        "when": due_of(asked, first),
    }
    return _small(asked.say(f"{several}_named" if named else several, **values))


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _left(asked: Asked, timer: Timer) -> int:
    """Return the seconds a timer still has to run, at least one."""
    if timer.paused_s is not None:
        return max(1, timer.paused_s)
    return max(1, math.ceil((timer.due - asked.household.now()).total_seconds()))


async def _lists(asked: Asked) -> list[str]:
    there = sorted(item.list for item in await asked.household.items() if item.removed is None)
    return [
        _small(asked.say("the_list", list=name, count=asked.phrases.number(len(list(lines)))))
        for name, lines in groupby(there)
    ]


async def _wake(asked: Asked) -> str:
    """Set an alarm under the house's name; who asks twice wants one."""
    if not asked.household.clock_is_right():
        return asked.say("no_clock")
    now = asked.household.now()
    named = {name for name, _ in asked.match.slots}
    morning = () if named & {"half", "part"} else (("part", "morning"),)  # when else would a house be woken
    when = moment(replace(asked.match, slots=(*asked.match.slots, *morning)), now, wakes=True)
    if when is None:
        return asked.say("over")
    alarm = Timer(kind=TimerKind.ALARM, name=_small(asked.say("name")), set_at=now, due=when.due, repeat=when.repeat)
    for other in await asked.household.timers():
        if (other.kind, other.due, other.repeat) == (alarm.kind, alarm.due, alarm.repeat):
            return asked.say("wakes_already", when=due_of(asked, alarm))
    await asked.household.save_timers([alarm])
    return asked.say("wakes", when=due_of(asked, alarm))
