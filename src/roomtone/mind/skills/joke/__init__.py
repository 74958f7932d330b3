"""Jokes from the persona's own file, in an order of its own: none is told twice before all were told."""

from __future__ import annotations

from random import Random

from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Tell the next joke; which one that is follows from how many were told, so that a restart repeats none."""
    persona = asked.household.persona
    jokes = persona.jokes.get(asked.phrases.language.language, ())
    if not jokes:
        return [asked.say("none", persona=persona.name)]
    round_, place = divmod(await asked.household.times_asked(asked.match.intent), len(jokes))
    return [Random(f"{persona.id} {round_}").sample(jokes, len(jokes))[place]]
