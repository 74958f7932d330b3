"""The time, the date and the day of the week."""

from __future__ import annotations

from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Tell what the household's clock shows, if it can be right."""
    if not asked.household.clock_is_right():
        return [asked.say("no_clock" if asked.match.name == "time" else "no_date")]
    now = asked.household.now()
    say = asked.phrases
    values = {
        "time": say.time(now),
        "weekday": say.weekday(now),
        "day": say.ordinal(now.day),
        "month": say.month(now),
        "year": say.year(now.year),
    }
    return [asked.say(asked.match.name, **values)]
