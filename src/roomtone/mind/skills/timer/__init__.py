"""Timers: set them, ask how long they still run, pause, lengthen and cancel them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from roomtone.core.dialog import Timer, TimerKind
from roomtone.core.errors import HouseError, ToolError
from roomtone.core.speakable import in_words
from roomtone.mind.delivering import refused
from roomtone.mind.elsewhere import elsewhere, told_there
from roomtone.mind.house import ElsewhereTimer
from roomtone.mind.moments import after, seconds
from roomtone.mind.skills import Asked, Heard

READ_OUT = 5
"""Timers that are told one by one; of more the number is told."""


def accepts(heard: Heard) -> bool:
    """Refuse a name that is no name but a part of another sentence."""
    name = heard.match.get("any_name")
    return name is None or heard.phrases.is_name(str(name))


async def answer(asked: Asked) -> list[str]:
    """Do with the household's timers what was asked."""
    name = asked.match.name
    if name == "set":
        return [await _set(asked)]
    if name == "change" and asked.match.get("correction") and not await _spoken_of(asked):
        return [asked.say("what_then")]
    running = [timer for timer in await asked.household.timers() if timer.kind is TimerKind.TIMER]
    if name in ("cancel", "cancel_all") and _rang(asked):
        return [asked.say("stopped")]
    if name == "extend" and _rang(asked):
        return await _again(asked)
    found = _nth(asked, _meant(asked, running))
    if not found:
        return await _elsewhere(asked) or [_none(asked, running)]
    if name in ("left", "ends"):
        return [*_told(asked, found, name), *(await _others(asked, alone=False) if _lists(asked) else ())]
    if name == "change":
        found = [max(found, key=lambda timer: timer.set_at)]
    if len(found) > 1 and name != "cancel_all" and not asked.match.get("all"):
        return [*_told(asked, found, "left"), asked.say("which")]
    return await ACTS[name](asked, found)


async def _spoken_of(asked: Asked) -> bool:
    """Whether what was said before was of timers, so that "no, fifteen minutes" can only mean one."""
    before = await asked.household.last_turn()
    return before is not None and (before.intent or "").startswith("timer.")


async def _set(asked: Asked) -> str:
    length, name = seconds(asked.match), _name(asked)
    if not length:
        return asked.say("how_long")
    now = asked.household.now()
    await asked.household.save_timers([Timer(name=name, seconds=length, set_at=now, due=after(now, length))])
    return asked.say("set_named" if name else "set", duration=asked.phrases.duration(length), name=name)


def _name(asked: Asked) -> str:
    return str(asked.match.get("name") or asked.match.get("any_name") or "").lower()


def _lists(asked: Asked) -> bool:
    """Whether all timers are asked for, not how long a single one still runs."""
    named = _name(asked) or seconds(asked.match) or asked.match.get("nth")
    return not named and bool(set(asked.data["all"]) & set(asked.match.text.lower().strip("?!. ").split()))


async def _others(asked: Asked, *, alone: bool) -> list[str]:
    """Tell of the timers of the other rooms that may be meant."""
    there = await elsewhere(asked, TimerKind.TIMER)
    meant = _meant(asked, [each.timer for each in there])
    return told_there(asked, [each for each in there if each.timer in meant], partial(_there, asked), alone=alone)


async def _elsewhere(asked: Asked) -> list[str]:
    """Answer for other rooms what nothing here is meant by; nothing where nothing there is either."""
    if asked.match.name not in ("left", "ends", "cancel") or asked.match.get("nth"):
        return []
    if asked.match.name != "cancel" or not (_name(asked) or seconds(asked.match)):
        told = await _others(asked, alone=True)
        return [*([_none(asked, [])] if told and not _name(asked) else []), *told]
    there = await elsewhere(asked, TimerKind.TIMER)
    meant = _meant(asked, [each.timer for each in there])
    found = [each for each in there if each.timer in meant]
    if len(found) > 1:
        return [*told_there(asked, found, partial(_there, asked), alone=True), asked.say("which")]
    try:
        asked.household.acts()
        await asked.household.house.cancel_timers(found)
    except HouseError as error:
        raise ToolError(refused(error, asked.phrases.of(asked.phrases.language.say)), reason=error.message) from error
    return [_cancelled(asked, each.timer, in_words(each.room)) for each in found]


def _cancelled(asked: Asked, timer: Timer, room: str = "") -> str:
    key = f"cancelled{'_named' if timer.name else ''}{'_there' if room else ''}"
    return asked.say(key, name=timer.name, whole=asked.phrases.length(timer.seconds), room=room)


def _there(asked: Asked, found: ElsewhereTimer) -> str:
    timer = found.timer
    key = f"there{'_named' if timer.name else '_of'}{'_paused' if timer.paused_s is not None else ''}"
    left = asked.phrases.duration(_left(asked, timer))
    return asked.say(key, name=timer.name, whole=asked.phrases.length(timer.seconds), duration=left)


def _nth(asked: Asked, timers: list[Timer]) -> list[Timer]:
    """Return the one that was counted out, in the order they were set; all where none was."""
    nth = asked.match.get("nth")
    if nth is None:
        return timers
    in_order = sorted(timers, key=lambda timer: timer.set_at)
    return in_order[nth:][:1] if nth < 0 else in_order[nth - 1 : nth]


def _meant(asked: Asked, timers: list[Timer]) -> list[Timer]:
    """Return the timers that may be meant: of the name, the length and the state that were spoken of."""
    name = _name(asked)
    length = 0 if asked.match.name in ("extend", "shorten", "change") else seconds(asked.match)
    if asked.match.name in ("pause", "resume"):
        timers = [timer for timer in timers if (timer.paused_s is not None) == (asked.match.name == "resume")]
    return [timer for timer in timers if name in ("", timer.name.lower()) and length in (0, timer.seconds)]


def _rang(asked: Asked) -> bool:
    """Whether what is spoken of rings just now; who wants more time may mean whatever rings."""
    rang = asked.household.rang()
    if asked.match.name == "extend" and not _name(asked):
        return bool(rang)
    return any(_name(asked) in ("", timer.name.lower()) for timer in rang if timer.kind is TimerKind.TIMER)


def _none(asked: Asked, running: list[Timer]) -> str:
    name, length = _name(asked), seconds(asked.match)
    if asked.match.name in ("extend", "shorten", "change"):
        length = 0
    if asked.match.name == "resume" and running:
        return asked.say("not_paused")
    if running and asked.match.get("nth"):
        return asked.say("none_nth", count=asked.phrases.number(len(running)))
    key = "none_named" if name else "none_long" if length else "none"
    return asked.say(key, name=name, whole=asked.phrases.length(length))


def _told(asked: Asked, timers: list[Timer], key: str) -> list[str]:
    several = len(timers) > 1
    lines = [asked.say("several", count=asked.phrases.number(len(timers)))] if several else []
    told_apart = several or asked.match.get("nth") is not None
    lines += [_one(asked, timer, key, told_apart) for timer in timers[:READ_OUT]]
    more = len(timers) - READ_OUT
    return [*lines, asked.say("more", count=asked.phrases.number(more))] if more > 0 else lines


def _one(asked: Asked, timer: Timer, key: str, told_apart: bool) -> str:
    key = "left" if timer.paused_s is not None else key
    kind = "_named" if timer.name else "_of" if told_apart else ""
    return asked.say(
        f"{key}{kind}{'_paused' if timer.paused_s is not None else ''}",
        duration=asked.phrases.duration(_left(asked, timer)),
        name=timer.name,
        whole=asked.phrases.length(timer.seconds),
        time=asked.phrases.time(timer.due.astimezone(asked.household.now().tzinfo)),
    )


def _left(asked: Asked, timer: Timer) -> int:
    """Return the seconds that a timer still has to run, at least one."""
    if timer.paused_s is not None:
        return max(1, timer.paused_s)
    return max(1, math.ceil((timer.due - asked.household.now()).total_seconds()))


async def _cancel(asked: Asked, timers: list[Timer]) -> list[str]:
    await asked.household.cancel_timers(timers)
    if len(timers) > 1:
        return [asked.say("cancelled_all", count=asked.phrases.number(len(timers)))]
    return [_cancelled(asked, timers[0])]


async def _pause(asked: Asked, timers: list[Timer]) -> list[str]:
    return [
        line for timer in timers for line in await _changed(asked, "paused", timer, _left(asked, timer), paused=True)
    ]


async def _resume(asked: Asked, timers: list[Timer]) -> list[str]:
    return [line for timer in timers for line in await _changed(asked, "resumed", timer, _left(asked, timer))]


async def _restart(asked: Asked, timers: list[Timer]) -> list[str]:
    """Start a timer over, or a paused one again where it stood."""
    if timers[0].paused_s is not None:
        return await _resume(asked, timers)
    return await _changed(asked, "restarted", timers[0], timers[0].seconds)


async def _extend(asked: Asked, timers: list[Timer]) -> list[str]:
    return await _lengthened(asked, timers[0], seconds(asked.match))


async def _shorten(asked: Asked, timers: list[Timer]) -> list[str]:
    left = _left(asked, timers[0])
    if seconds(asked.match) >= left:
        return [asked.say("too_short", duration=asked.phrases.duration(left))]
    return await _lengthened(asked, timers[0], -seconds(asked.match))


async def _change(asked: Asked, timers: list[Timer]) -> list[str]:
    """Give a timer another length: from when it was set, or from now on if that would be over."""
    timer, length = timers[0], seconds(asked.match)
    left = _left(asked, timer) + length - timer.seconds
    return await _lengthened(asked, timer, (left if left > 0 else length) - _left(asked, timer))


async def _lengthened(asked: Asked, timer: Timer, by: int) -> list[str]:
    longer = timer.model_copy(update={"seconds": max(1, timer.seconds + by)})
    return await _changed(asked, "changed", longer, _left(asked, timer) + by, paused=timer.paused_s is not None)


async def _changed(asked: Asked, key: str, timer: Timer, left: int, *, paused: bool = False) -> list[str]:
    """Keep a timer with so many seconds left, and say so."""
    update = {"paused_s": left if paused else None, "due": after(asked.household.now(), left)}
    await asked.household.save_timers([timer.model_copy(update=update)])
    values = {"duration": asked.phrases.duration(left), "name": timer.name}
    return [asked.say(f"{key}_named" if timer.name else key, **values)]


async def _again(asked: Asked) -> list[str]:
    """Who asks for more time while a timer rings wants it to ring again then."""
    await asked.household.snooze(seconds(asked.match))
    return [asked.say("again", duration=asked.phrases.duration(seconds(asked.match)))]


ACTS: Mapping[str, Callable[[Asked, list[Timer]], Awaitable[list[str]]]] = {
    "cancel": _cancel,
    "cancel_all": _cancel,
    "pause": _pause,
    "resume": _resume,
    "restart": _restart,
    "extend": _extend,
    "shorten": _shorten,
    "change": _change,
}
