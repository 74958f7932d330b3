"""Routines: run one, or say which there are."""

from __future__ import annotations

from roomtone.core.speakable import in_words
from roomtone.mind import Answer
from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str] | Answer:
    """Run a routine, whose words come as its steps end; or name them all."""
    if asked.match.name == "run":
        wanted = asked.match.get("routine") or asked.match.get("phrase")
        return await asked.household.run_routine(str(wanted))
    names = [in_words(name) for name in await asked.household.routines()]
    if not names:
        return [asked.say("none")]
    key = "there_are" if len(names) == 1 else "there_are_some"
    return [asked.say(key, routines=asked.phrases.joined(names))]
