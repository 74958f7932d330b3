"""Who speaks."""

from __future__ import annotations

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import PersonaError, ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import Nothing, built_in


class Who(Noun):
    """A persona."""

    persona: str = Field(min_length=1, max_length=100, description="name or id")


@built_in("persona.switch", "Let another persona speak from now on", Who, changes=True)
async def switch(wanted: Who, house: Household) -> Result:
    """Speak as another persona."""
    there = await house.personas()
    who = wanted.persona.strip().casefold()
    found = next((one for one in there if who in (one.id.casefold(), one.name.casefold())), None)
    if found is None:
        raise ToolError(f"there is no {wanted.persona}; there are {', '.join(one.name for one in there)}")
    try:
        persona = await house.become(found.id)
    except PersonaError as error:
        raise ToolError(error.message) from error
    return Result(f"{persona.name} speaks now")


@built_in("persona.list", "Who is there to talk to")
async def personas(_: Nothing, house: Household) -> Result:
    """Tell who is there, and what they are for."""
    told = [f"{one.name}: {one.description}" if one.description else one.name for one in await house.personas()]
    return Result("\n".join(told))


TOOLS = (switch, personas)
