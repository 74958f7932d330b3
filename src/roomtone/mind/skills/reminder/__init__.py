"""Reminders: a text that is said at a time, or after some."""

from __future__ import annotations

from roomtone.core.dialog import Timer, TimerKind
from roomtone.mind.moments import Moment, after, clock, moment, seconds
from roomtone.mind.skills import Asked, Heard

READ_OUT = 5
"""Reminders that are told one by one; of more the number is told."""


def accepts(heard: Heard) -> bool:
    """Refuse a reading in which a part of the time is left in the text; another reading has it."""
    words = _text(heard.match.get("any_text")).lower().split()
    return not words or words[-1] not in heard.data["unfinished"]


async def answer(asked: Asked) -> list[str]:
    """Do with the household's reminders what was asked."""
    name = asked.match.name
    if name == "set":
        return [await _set(asked)]
    reminders = [timer for timer in await asked.household.timers() if timer.kind is TimerKind.REMINDER]
    ringing = any(timer.kind is TimerKind.REMINDER for timer in asked.household.rang())
    if name in ("cancel", "cancel_all") and ringing and not asked.match.get("any_text"):
        return [asked.say("stopped")]
    found = _meant(asked, reminders) if name == "cancel" else reminders
    if not found:
        text = asked.phrases.turned(_text(asked.match.get("any_text")))
        return [asked.say("none_such", text=text) if text else asked.say("none")]
    if name == "list":
        return [_told(asked, found)]
    if name == "cancel" and len(found) > 1:
        return [_told(asked, found), asked.say("which")]
    return [await _cancel(asked, found)]


async def _set(asked: Asked) -> str:
    text = asked.phrases.turned(_text(asked.match.get("any_text")))
    if not text:
        return asked.say("what")
    now, length = asked.household.now(), seconds(asked.match)
    if length:
        when: Moment | None = Moment(after(now, length))
    elif clock(asked.match) is None:
        return asked.say("when", text=text)
    elif not asked.household.clock_is_right():
        return asked.say("no_clock")
    else:
        when = moment(asked.match, now)
    if when is None:
        return asked.say("over")
    kept = {"kind": TimerKind.REMINDER, "name": text, "seconds": length, "set_at": now}
    reminder = Timer(**kept, due=when.due, repeat=when.repeat)
    await asked.household.save_timers([reminder])
    return asked.say("set", link=asked.match.get("link"), text=text, when=_when(asked, reminder))


async def _cancel(asked: Asked, reminders: list[Timer]) -> str:
    await asked.household.cancel_timers(reminders)
    if len(reminders) > 1:
        return asked.say("cancelled_all", count=asked.phrases.number(len(reminders)))
    return asked.say("cancelled", text=reminders[0].name)


def _text(said: object) -> str:
    return str(said or "").strip(" .,;:!?")


def _meant(asked: Asked, reminders: list[Timer]) -> list[Timer]:
    """Return the reminders whose text holds every word that was said of it."""
    wanted = set(asked.phrases.turned(_text(asked.match.get("any_text"))).lower().split())
    return [reminder for reminder in reminders if wanted <= set(reminder.name.lower().split())]


def _told(asked: Asked, reminders: list[Timer]) -> str:
    texts = [asked.say("told", text=one.name, when=_when(asked, one)) for one in reminders[:READ_OUT]]
    more = len(reminders) - len(texts)
    texts += [asked.say("more", count=asked.phrases.number(more))] if more else []
    joined = asked.phrases.joined([text[:1].lower() + text[1:] for text in texts])
    return asked.say(
        "one" if len(reminders) == 1 else "several", count=asked.phrases.number(len(reminders)), texts=joined
    )


def _when(asked: Asked, reminder: Timer) -> str:
    now = asked.household.now()
    due = reminder.due.astimezone(now.tzinfo)
    if reminder.repeat is None:
        return asked.phrases.when(due, now)
    return asked.phrases.repeated(due, reminder.repeat.split()[4])
