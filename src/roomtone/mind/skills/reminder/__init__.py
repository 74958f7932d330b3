"""Reminders: a text that is said at a time, or after some."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.core.dialog import Timer, TimerKind
from roomtone.core.recurrence import Half, on_day
from roomtone.mind.elsewhere import elsewhere, told_there
from roomtone.mind.moments import Moment, after, clock, due_of, moment, named_days, said_half, seconds
from roomtone.mind.skills import Asked, Heard

READ_OUT = 5
"""Reminders that are told one by one; of more the number is told."""


def accepts(heard: Heard) -> bool:
    """Refuse a reading in which a part of the time is left in the text; another reading has it."""
    words = _text(heard.match.get("any_text")).lower().split()
    says_something = any(word not in heard.phrases.language.not_in_names and not word.isdecimal() for word in words)
    return not words or (says_something and words[-1] not in heard.data["unfinished"])


async def answer(asked: Asked) -> list[str]:
    """Do with the household's reminders what was asked."""
    name = asked.match.name
    if name == "set":
        return [await _set(asked)]
    reminders = [timer for timer in await asked.household.timers() if timer.kind is TimerKind.REMINDER]
    ringing = any(timer.kind is TimerKind.REMINDER for timer in asked.household.rang())
    if name in ("cancel", "cancel_all") and ringing and not asked.match.get("any_text"):
        return [asked.say("stopped")]
    found = _meant(asked, reminders) if name == "cancel" else _of_the_day(asked, reminders)
    there = await _others(asked, alone=not found) if name == "list" and not asked.match.get("only") else []
    if not found and there:
        return there
    if not found:
        text = asked.phrases.turned(_text(asked.match.get("any_text")))
        return [asked.say("none_such", text=text) if text else asked.say("none_then" if reminders else "none")]
    if name == "list":
        return [_told(asked, found[:1] if asked.match.get("only") else found), *there]
    if name == "cancel" and len(found) > 1:
        return [_told(asked, found), asked.say("which")]
    return [await _cancel(asked, found)]


async def _set(asked: Asked) -> str:
    text = asked.phrases.turned(_text(asked.match.get("any_text")))
    if not text:
        return asked.say("what")
    if asked.match.get("several_times") is not None:
        return asked.say("not_so_often")
    now, length = asked.household.now(), seconds(asked.match)
    if length:
        when: Moment | None = Moment(after(now, length))
    elif _unsaid(asked):
        return asked.say("when", text=text)
    elif not asked.household.clock_is_right():
        return asked.say("no_clock")
    else:
        when = _moment(asked, now)
    if when is None:
        return asked.say("over")
    kept = {"kind": TimerKind.REMINDER, "name": text, "seconds": length, "set_at": now}
    reminder = Timer(**kept, due=when.due, repeat=when.repeat)
    await asked.household.save_timers([reminder])
    said = {"link": asked.match.get("link"), "text": text, "when": due_of(asked, reminder)}
    return asked.say("set_in" if length else "set", duration=asked.phrases.duration(length), **said)


def _unsaid(asked: Asked) -> bool:
    """Whether no time can be made of what was said: none was named, and no day that has a usual one."""
    named = ("part", "weekday", "date", "each", "every", "in_days", "in_weeks")
    later = asked.match.get("day") not in (None, "today")
    return clock(asked.match) is None and not later and all(asked.match.get(slot) is None for slot in named)


def _moment(asked: Asked, now: datetime) -> Moment | None:
    """Return when a reminder is due: at the time that was said, or else at the day's usual one."""
    match, data = asked.match, asked.data
    if clock(match) is None:
        part = match.get("part") or ("night" if match.get("day") == "tonight" else None)
        hour = data["hours"].get(part, data["day"])
        match = replace(match, slots=(*match.slots, ("clock", hour * 60)))
    ahead = match.get("in_days", 0) + 7 * match.get("in_weeks", 0)
    if not ahead:
        return moment(match, now)
    day, zone, face = now.date() + timedelta(ahead), now.tzinfo, clock(match)
    assert face is not None
    assert isinstance(zone, ZoneInfo)
    return Moment(on_day(face.at(said_half(match, face) or Half.WAKING), day, zone))


def _of_the_day(asked: Asked, reminders: list[Timer]) -> list[Timer]:
    """Return those that come next on the day that was named; all where none was."""
    now = asked.household.now()
    days = named_days(asked.match, now)
    return [one for one in reminders if not days or one.due.astimezone(now.tzinfo).date() in days]


async def _cancel(asked: Asked, reminders: list[Timer]) -> str:
    await asked.household.cancel_timers(reminders)
    if len(reminders) > 1:
        return asked.say("cancelled_all", count=asked.phrases.number(len(reminders)))
    return asked.say("cancelled", text=reminders[0].name)


async def _others(asked: Asked, *, alone: bool) -> list[str]:
    """Tell of the reminders of the other rooms, those of the day that was named."""
    there = await elsewhere(asked, TimerKind.REMINDER)
    meant = _of_the_day(asked, [each.timer for each in there])
    found = [each for each in there if each.timer in meant]
    return told_there(asked, found, lambda each: _one(asked, each.timer), alone=alone)


def _one(asked: Asked, reminder: Timer) -> str:
    key = (
        "told" if reminder.name else "told_unnamed"
    )  # another room keeps its texts, unless the household shares them
    return asked.say(key, text=reminder.name, when=due_of(asked, reminder))


def _text(said: object) -> str:
    return str(said or "").strip(" .,;:!?")


def _meant(asked: Asked, reminders: list[Timer]) -> list[Timer]:
    """Return the reminders whose text holds every word that was said of it."""
    wanted = set(asked.phrases.turned(_text(asked.match.get("any_text"))).lower().split())
    return [reminder for reminder in reminders if wanted <= set(reminder.name.lower().split())]


def _told(asked: Asked, reminders: list[Timer]) -> str:
    texts = [_one(asked, one) for one in reminders[:READ_OUT]]
    more = len(reminders) - len(texts)
    texts += [asked.say("more", count=asked.phrases.number(more))] if more else []
    joined = asked.phrases.joined([text[:1].lower() + text[1:] for text in texts])
    return asked.say(
        "one" if len(reminders) == 1 else "several", count=asked.phrases.number(len(reminders)), texts=joined
    )
