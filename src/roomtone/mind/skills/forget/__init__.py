"""Forget what was said: the last thing, the last while, or the day; of more than an hour it is asked once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from roomtone.mind.memory import Fact
from roomtone.mind.skills import Asked, Match, Offering

AT_ONCE = timedelta(hours=1)
"""As much may be lost by a misunderstanding; more is forgotten only after a yes."""

LATEST = 10
"""Facts among which those of the last words are."""


async def answer(asked: Asked) -> list[str] | Offering:
    """Erase what was meant, for good; timers, alarms, lists and what was told to be remembered stay."""
    if asked.match.name in ("since", "today") and not asked.household.clock_is_right():
        return [asked.say("no_clock")]  # the last hour of a clock at 1970 is all that was ever said
    now = asked.household.now()  # read once: the last hour is no longer than an hour
    since = await _since(asked, now)
    if since is None:
        return [asked.say("nothing")]
    long = asked.match.name != "last" and now - since > AT_ONCE
    if long and not asked.match.get("sure"):
        return _sure(asked)
    forgotten = await asked.household.forget(since)
    told = await _remembered(asked, since) if asked.match.name == "last" else []
    return [asked.say("done" if forgotten or told else "nothing")]


async def _remembered(asked: Asked, since: datetime) -> list[Fact]:
    """Forget also what was told to be remembered in these last words: who takes them back means that most of all."""
    memory = asked.household.memory
    known = await memory.facts(asked.household.persona.id, limit=LATEST)
    return await memory.forget([fact.id for fact in known if fact.at >= since])


async def _since(asked: Asked, now: datetime) -> datetime | None:
    if asked.match.name == "today":
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    if asked.match.name == "since":
        return now.astimezone(UTC) - length(asked.match)  # an hour is an hour where the clocks are changed too
    if asked.match.name == "all":
        return datetime(1970, 1, 1, tzinfo=UTC)
    last = await asked.household.last_turn()
    return last.at if last else None


def length(match: Match) -> timedelta:
    """Return the length of time that was named."""
    units = ("weeks", "days", "hours", "minutes", "seconds")
    return timedelta(**{unit: match.total(unit) for unit in units})


def _sure(asked: Asked) -> Offering:
    named = asked.phrases.duration(round(length(asked.match).total_seconds()))
    question = asked.say(f"sure_{asked.match.name}", length=named)
    return Offering([question], asked.match.name, {**dict(asked.match.slots), "sure": True})
