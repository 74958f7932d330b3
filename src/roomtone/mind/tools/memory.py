"""What is to be known beyond the conversation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.memory import Fact, Level
from roomtone.mind.tools.built_in import built_in

AT_ONCE = 8
"""Facts that are told at once."""

LONGEST = 500


class NewFact(Noun):
    """Something to know."""

    text: str = Field(min_length=1, max_length=LONGEST, description="one sentence")
    kind: Literal["fact", "preference"] = "fact"


class About(Noun):
    """What it is about."""

    text: str = Field(max_length=LONGEST)


class Known(Noun):
    """A fact as it is known."""

    text: str = Field(min_length=1, max_length=2000, description="as memory.recall gave it")


class Kept(Noun):
    """Facts as they were."""

    facts: tuple[Fact, ...] = Field(max_length=50)


@built_in("memory.remember", "Remember for later", NewFact, changes=True)
async def remember(wanted: NewFact, house: Household) -> Result:
    """Keep a fact, which this persona alone knows."""
    persona = house.persona.id
    if await _same(wanted.text, house):
        return Result("that is known already")
    fact = await house.memory.keep(Fact(level=Level(wanted.kind), text=wanted.text.strip(), persona=persona))
    return Result(f"remembered: {fact.text}", undo=("memory.forget", {"text": fact.text}))


@built_in("memory.recall", "What you know about something", About)
async def recall(wanted: About, house: Household) -> Result:
    """Tell what is known about something."""
    if not wanted.text.strip():
        facts = await house.memory.facts(house.persona.id, limit=AT_ONCE)
    else:
        facts = [each.fact for each in await house.memory.recall(wanted.text, house.persona.id, AT_ONCE)]
    return Result("\n".join(fact.text for fact in facts) or "nothing is known of that")


@built_in("memory.forget", "Forget a fact", Known, changes=True)
async def forget(wanted: Known, house: Household) -> Result:
    """Forget a fact, of those that this persona may know."""
    found = await _same(wanted.text, house)
    if not found:
        near = [fact.text for fact in await house.memory.facts(house.persona.id, wanted.text, AT_ONCE)]
        raise ToolError(f"not known in these words; known: {' | '.join(near) or 'nothing like it'}")
    gone = await house.memory.forget([fact.id for fact in found])
    kept = {"facts": [fact.model_dump(mode="json") for fact in gone]}
    return Result(f"forgotten: {wanted.text}", undo=("memory.restore", kept))


@built_in("memory.restore", "Know again what was forgotten", Kept, changes=True)
async def restore(wanted: Kept, house: Household) -> Result:
    """Keep again what was forgotten."""
    for fact in wanted.facts:
        await house.memory.keep(fact)
    return Result(f"known again: {' | '.join(fact.text for fact in wanted.facts)}")


async def _same(text: str, house: Household) -> list[Fact]:
    """Return the facts in just these words that this persona may know."""
    words = _words(text)
    return [fact for fact in await house.memory.facts(house.persona.id, text, AT_ONCE) if _words(fact.text) == words]


def _words(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!")


TOOLS = (remember, recall, forget)
TAKING_BACK = (restore,)
