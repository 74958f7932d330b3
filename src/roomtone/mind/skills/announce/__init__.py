"""Saying something in other rooms, in the voice that each of them has."""

from __future__ import annotations

from roomtone.core.errors import EgressRefused, HouseError
from roomtone.mind.delivering import delivered, refused
from roomtone.mind.house import lonely_phrase
from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Say the text in the room that was named, or in all others, and tell where it was said."""
    house, phrases = asked.household.house, asked.phrases.of(asked.phrases.language.say)
    if not house.rooms():
        return [phrases.say(lonely_phrase(house))]
    room = asked.match.get("room")
    try:
        to = house.find(str(room)) if room is not None else None
        asked.household.acts()
        return [delivered(await house.announce(asked.match.written("text"), to), phrases)]
    except (HouseError, EgressRefused) as error:
        return [refused(error, phrases)]
