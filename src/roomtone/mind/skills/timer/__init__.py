"""Timers: set one, ask how long it still runs, cancel one or all."""

from __future__ import annotations

import math
from datetime import timedelta

from roomtone.core.dialog import Timer
from roomtone.mind.skills import Asked, Match


async def answer(asked: Asked) -> list[str]:
    """Do with the household's timers what was asked."""
    if asked.match.name == "set":
        return [await _set(asked)]
    found = _meant(asked.match, await asked.household.timers())
    if not found:
        return [_none(asked)]
    if asked.match.name == "left":
        return _left(asked, found)
    if asked.match.name == "cancel" and len(found) > 1:
        return [*_left(asked, found), asked.say("which")]
    await asked.household.cancel_timers(found)
    return [_cancelled(asked, found)]


def seconds(match: Match) -> int:
    """Return the duration that was named, in seconds; 0 where none was."""
    return match.total("hours") * 3600 + match.total("minutes") * 60 + match.total("seconds")


def _name(match: Match) -> str:
    return str(match.get("name") or match.get("any_name") or "")


async def _set(asked: Asked) -> str:
    length, name = seconds(asked.match), _name(asked.match)
    if not length:
        return asked.say("how_long")
    now = asked.household.now()
    timer = Timer(name=name, seconds=length, set_at=now, due=now + timedelta(seconds=length))
    await asked.household.save_timers([timer])
    duration = asked.phrases.duration(timer.seconds)
    return asked.say("set_named" if name else "set", duration=duration, name=name)


def _meant(match: Match, timers: list[Timer]) -> list[Timer]:
    name, length = _name(match), seconds(match)
    return [timer for timer in timers if name in ("", timer.name) and length in (0, timer.seconds)]


def _none(asked: Asked) -> str:
    name, length = _name(asked.match), seconds(asked.match)
    key = "none_named" if name else "none_long" if length else "none"
    return asked.say(key, name=name, whole=asked.phrases.duration(length))


def _left(asked: Asked, timers: list[Timer]) -> list[str]:
    several = len(timers) > 1
    lines = [asked.say("several", count=asked.phrases.number(len(timers)))] if several else []
    for timer in timers:
        remaining = max(1, math.ceil((timer.due - asked.household.now()).total_seconds()))
        key = "left_named" if timer.name else "left_of" if several else "left"
        duration, whole = asked.phrases.duration(remaining), asked.phrases.duration(timer.seconds)
        lines.append(asked.say(key, duration=duration, name=timer.name, whole=whole))
    return lines


def _cancelled(asked: Asked, timers: list[Timer]) -> str:
    if len(timers) > 1:
        return asked.say("cancelled_all", count=asked.phrases.number(len(timers)))
    return asked.say("cancelled_named" if timers[0].name else "cancelled", name=timers[0].name)
