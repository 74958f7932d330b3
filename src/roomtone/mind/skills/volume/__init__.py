"""The loudness of the room's own voice."""

from __future__ import annotations

from roomtone.mind.skills import Asked

STEP = 10
QUIETEST = 5
"""In percent: "down" never goes below, as a room that cannot be heard cannot say why."""


async def answer(asked: Asked) -> list[str]:
    """Change the volume as asked, and say what it is now."""
    match, household = asked.match, asked.household
    percent = round(household.volume() * 100)
    step = match.get("step", STEP)
    if match.unfinished:
        return [asked.say("to_what")]
    if match.name == "up" and percent == 100:
        return [asked.say("loudest")]
    if match.name == "down" and percent <= QUIETEST:
        return [asked.say("quietest")]
    wanted = {"up": percent + step, "down": max(QUIETEST, percent - step), "set": _wanted(asked)}
    if match.name in wanted:
        percent = min(100, wanted[match.name])
        await household.set_volume(percent / 100)
    return [asked.say("now", percent=asked.phrases.number(percent))]


def _wanted(asked: Asked) -> int:
    if asked.match.get("number") is None:
        return asked.match.total("percent")
    # People count loudness from one to ten; what is above can only be meant as percent.
    number = asked.match.total("number")
    return number * 10 if number <= 10 else number
