"""Other rooms. Where there are none both tools say so, and no model is told of them."""

from __future__ import annotations

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import EgressRefused, HouseError, ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import built_in

ALONE = "there is no other room here: Roomtone runs in this one alone"


class Announcement(Noun):
    """A text for a room; for all others where none is named."""

    text: str = Field(min_length=1, max_length=500)
    room: str = Field("", max_length=60)


class Target(Noun):
    """A room."""

    room: str = Field(min_length=1, max_length=60)


@built_in(
    "announce.say", "Say a text in another room, or in all", Announcement, changes=True, offered=False, elsewhere=True
)
async def announce(wanted: Announcement, house: Household) -> Result:
    """Let it be said there; where there is no other room, let the model say it here."""
    others = house.house
    if not others.rooms():
        if wanted.room:
            raise ToolError(ALONE)
        return Result(f"{ALONE}; say it here yourself, word for word: {wanted.text}")
    try:
        to = others.find(wanted.room) if wanted.room else None
        house.acts()
        outcome = await others.announce(wanted.text, to)
    except (HouseError, EgressRefused) as error:
        raise ToolError(error.message) from error
    missed = [f"not in the {room} ({code})" for room, code in outcome.missed]
    return Result("; ".join([f"said in: {', '.join(outcome.rooms) or 'no room'}", *missed]))


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
