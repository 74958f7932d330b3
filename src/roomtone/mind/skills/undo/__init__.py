"""Take back what was done last: by a tool, or to a list of which was just spoken."""

from __future__ import annotations

from dataclasses import replace

from roomtone.mind.skills import Asked, Match, Offering


async def answer(asked: Asked) -> list[str] | Offering:
    """Take it back, and say what. A list knows itself what can be put back on it."""
    before = await asked.household.last_turn()
    skill, _, _ = ((before.intent or "") if before else "").partition(".")
    if before is not None and before.intent in asked.data["cancelled_in_words"]:
        return [asked.say("cancel")]
    for lists in asked.skills:
        if lists.name == skill == "lists" and lists.answer is not None:
            words = asked.phrases.of(lists.texts)
            return await lists.answer(replace(asked, match=Match("lists", "undo"), phrases=words, data=lists.data))
    return [await asked.household.undo() or asked.say("nothing")]
