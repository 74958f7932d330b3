"""What the room says of timers, alarms and reminders that ring, and of those that nobody heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from roomtone.core.dialog import Timer, TimerKind
from roomtone.mind.phrases import Phrases

NAMED = 2
"""Timers that are named where more than ``ALL_NAMED`` ring at once."""

ALL_NAMED = 3

TOLD = 5
"""Missed ones that are told one by one; of more the number is told."""


def ringing(timers: Sequence[Timer], now: datetime, phrases: Phrases) -> str:
    """Return what is said while some ring, ``now`` being in the household's zone."""
    lines = []
    if counted := _of(TimerKind.TIMER, timers):
        lines.append(_timers(counted, phrases))
    if reminders := _of(TimerKind.REMINDER, timers):
        names = phrases.joined(list(dict.fromkeys(timer.name for timer in reminders)))
        lines.append(phrases.say("reminder_rings" if len(reminders) == 1 else "reminders_ring", names=names))
    if alarms := _of(TimerKind.ALARM, timers):
        called = list(dict.fromkeys(alarm.name for alarm in alarms if alarm.name))
        key = "alarm_rings_named" if called else "alarm_rings"
        lines.append(phrases.say(key, time=phrases.time(now), names=phrases.joined(called or [""])))
    return " ".join(lines)


def missed(timers: Sequence[Timer], now: datetime, phrases: Phrases, *, off: bool) -> str:
    """Return what is said of those that nobody heard; ``off``: because the room was."""
    told = [_missed(timer, now, phrases) for timer in timers[:TOLD]]
    more = len(timers) - len(told)
    if more:
        told.append(phrases.say("missed_more", count=phrases.number(more)).lower())
    return phrases.say("missed_off" if off else "missed", what=phrases.joined(told))


def _timers(timers: Sequence[Timer], phrases: Phrases) -> str:
    names = list(dict.fromkeys(timer.name for timer in timers if timer.name))
    if len(timers) == 1:
        return phrases.say("timer_rings_named" if names else "timer_rings", names="".join(names))
    if not names:
        return phrases.say("timers_ring_unnamed", count=phrases.number(len(timers)))
    if len(names) == len(timers) <= ALL_NAMED:
        return phrases.say("timers_ring", names=phrases.joined(names))
    named = names[:NAMED]
    more = len(timers) - len(named)
    values = {"names": phrases.language.numbers.between.join(named), "count": phrases.number(more)}
    return phrases.say("timers_ring_and_one" if more == 1 else "timers_ring_too", **values)


def _missed(timer: Timer, now: datetime, phrases: Phrases) -> str:
    at = timer.due.astimezone(now.tzinfo)
    key = "missed_timer_named" if timer.name and timer.kind is TimerKind.TIMER else f"missed_{timer.kind.value}"
    text = phrases.say(key, time=phrases.past(at, now), name=timer.name)
    return text[:1].lower() + text[1:]


def _of(kind: TimerKind, timers: Iterable[Timer]) -> list[Timer]:
    return [timer for timer in timers if timer.kind is kind]
