"""Other rooms. Without a hub there are none: both tools say so, and no model is told of them."""

from __future__ import annotations

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import HouseError, ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import built_in

ALONE = "there is no other room here: Roomtone runs in this one alone"


class Announcement(Noun):
    """A text for a room; for this one where none is named."""

    text: str = Field(min_length=1, max_length=500)
    room: str = Field("", max_length=60)


class Target(Noun):
    """A room."""

    room: str = Field(min_length=1, max_length=60)


@built_in("announce.say", "Announce in a room", Announcement, offered=False)
async def announce(wanted: Announcement, _: Household) -> Result:
    """Let the model say it here, which is all the rooms there are."""
    if wanted.room:
        raise ToolError(ALONE)
    return Result(f"{ALONE}; say it here yourself, word for word: {wanted.text}")


@built_in("handoff.to", "Let this conversation go on in another room", Target, offered=False, elsewhere=True)
async def hand_off(wanted: Target, house: Household) -> Result:
    """Let the conversation go; once it is agreed, this turn is over."""
    if not house.house.rooms():
        raise ToolError(ALONE)
    try:
        await house.hand_off(house.house.find(wanted.room))
    except HouseError as error:
        raise ToolError(error.message) from error
    return Result("it goes on there; say no more")


TOOLS = (announce, hand_off)
