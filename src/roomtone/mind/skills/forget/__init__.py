"""Forget what was said: the last thing, the last while, or the day; of more than an hour it is asked once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from roomtone.mind.skills import Asked, Match, Offering

AT_ONCE = timedelta(hours=1)
"""As much may be lost by a misunderstanding; more is forgotten only after a yes."""


async def answer(asked: Asked) -> list[str] | Offering:
    """Erase what was meant, for good; timers, alarms and lists stay."""
    now = asked.household.now()  # read once: the last hour is no longer than an hour
    since = await _since(asked, now)
    if since is None:
        return [asked.say("nothing")]
    long = asked.match.name != "last" and now - since > AT_ONCE
    if long and not asked.match.get("sure"):
        return _sure(asked)
    return [asked.say("done" if await asked.household.forget(since) else "nothing")]


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
