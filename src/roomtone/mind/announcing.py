"""What the room says of timers, alarms and reminders that ring, and of those that nobody heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from roomtone.core.dialog import Timer, TimerKind
from roomtone.mind.phrases import Phrases

NAMED = 2
"""Timers that are named where more than ``ALL_NAMED`` ring at once."""

ALL_NAMED = 3

HALF_MINUTE_S = 30.0
RECENT_S = 3600.0
"""What came due within the hour is told by how long ago; before that, by its time of day."""

EXACT_S = 2 * 3600.0
LONGEST_OFF_S = 48 * 3600.0
"""A longer absence is not told in hours."""

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


def missed(timers: Sequence[Timer], now: datetime, phrases: Phrases) -> str:
    """Return what is said of those that nobody heard, ``now`` being in the household's zone."""
    return phrases.say("missed", what=_told([_missed(timer, now, phrases) for timer in timers], phrases))


def while_off(timers: Sequence[Timer], now: datetime, phrases: Phrases, off_s: float | None) -> str:
    """Return what is said of those that came due while the room was off, for ``off_s`` seconds if that is known."""
    what = _told([_came_due(timer, now, phrases) for timer in timers], phrases)
    if off_s is None or not 0 < off_s <= LONGEST_OFF_S:
        return phrases.say("while_off", what=what)
    return phrases.say("off_for", length=_about(off_s, phrases), what=what)


def _told(each: list[str], phrases: Phrases) -> str:
    more = len(each) - TOLD
    if more > 0:
        each = [*each[:TOLD], phrases.say("missed_more", count=phrases.number(more)).lower()]
    return phrases.joined(each)


def _came_due(timer: Timer, now: datetime, phrases: Phrases) -> str:
    at = timer.due.astimezone(now.tzinfo)
    ago = (now - at).total_seconds()
    if ago < HALF_MINUTE_S:
        when = phrases.say("just_now")
    elif ago < RECENT_S:
        when = phrases.say("ago", length=_about(ago, phrases))
    else:
        when = phrases.say("at", time=phrases.past(at, now))
    key = "off_timer_named" if timer.name and timer.kind is TimerKind.TIMER else f"off_{timer.kind.value}"
    return _within(phrases.say(key, when=_within(when), name=timer.name))


def _about(seconds: float, phrases: Phrases) -> str:
    """Return a length of time in words, to the minute or, from two hours on, to the hour."""
    unit = 60 if seconds < EXACT_S else 3600
    return phrases.duration(max(1, round(seconds / unit)) * unit)


def _within(text: str) -> str:
    """Return a sentence as it stands within another."""
    return text[:1].lower() + text[1:]


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
    return _within(phrases.say(key, time=phrases.past(at, now), name=timer.name))


def _of(kind: TimerKind, timers: Iterable[Timer]) -> list[Timer]:
    return [timer for timer in timers if timer.kind is kind]
