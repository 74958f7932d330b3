"""What was said, and what was heard, once more."""

from __future__ import annotations

from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Repeat the last answer or the words it was given to; go on with one that was cut off, if that was offered."""
    if asked.match.name == "go_on":
        return [asked.match.get("rest")]
    turn = await asked.household.last_turn()
    if asked.match.name == "heard":
        return [asked.say("heard", heard=turn.heard.rstrip(".?!")) if turn else asked.say("nothing_heard")]
    return [turn.said if turn and turn.said else asked.say("nothing_said")]
