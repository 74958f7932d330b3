"""Not to be disturbed: what nobody in the room asked for waits."""

from __future__ import annotations

from roomtone.mind.moments import seconds
from roomtone.mind.skills import Asked

USUAL_S = 8 * 3600
"""A night, for who says no length; nobody wants to miss what comes on the next day."""

LONGEST_S = 24 * 3600


async def answer(asked: Asked) -> list[str]:
    """Begin such a while, or end it."""
    household = asked.household
    if asked.match.name == "over":
        await household.keep_quiet(0)
        return [asked.say("still_quiet" if household.is_quiet() else "over")]
    length = min(seconds(asked.match) or USUAL_S, LONGEST_S)
    await household.keep_quiet(length)
    return [asked.say("begun", duration=asked.phrases.duration(length))]
