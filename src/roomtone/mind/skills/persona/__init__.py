"""Who speaks, and letting somebody else speak."""

from __future__ import annotations

from roomtone.core.errors import PersonaError, ToolError
from roomtone.core.speakable import in_words
from roomtone.mind.skills import Asked

MOST = 8
"""Personas that are all named at once."""

FIRST = 5
"""How many are named of more."""


async def answer(asked: Asked) -> list[str]:
    """Switch, or tell who is there; who was switched to says so in their own voice and words."""
    match asked.match.name:
        case "switch":
            return await _switch(asked)
        case "nobody":
            return [asked.say("nobody", stranger=asked.match.get("stranger"), personas=await _all(asked))]
    others = await _all(asked)
    return [asked.say("others", personas=others) if others else asked.say("alone")]


async def _switch(asked: Asked) -> list[str]:
    present, wanted = asked.household.persona, asked.match.get("persona")
    if wanted == present.id:
        return [asked.say("already", persona=present.name)]
    try:
        persona = await asked.household.become(wanted)
    except PersonaError as error:
        raise ToolError(asked.say("lost", persona=in_words(wanted)), reason=error.message) from error
    greeting = persona.phrases.get(asked.phrases.language.language, {}).get("greeting")
    if greeting is None:
        return [asked.say("switched", persona=persona.name)]
    return [asked.phrases.of({"greeting": greeting}).say("greeting", persona=persona.name)]


async def _all(asked: Asked) -> str:
    """Name the others, and of many the first: nobody listens to a list of a hundred."""
    present = asked.household.persona.id
    others = list(dict.fromkeys(one.name for one in await asked.household.personas() if one.id != present))
    if len(others) <= MOST:
        return asked.phrases.joined(others) if others else ""
    more = asked.phrases.number(len(others) - FIRST)
    return asked.say("and_more", personas=", ".join(others[:FIRST]), more=more)
