"""Messages to other rooms as they are said: the next thing that somebody says here is carried there."""

from __future__ import annotations

from roomtone.core.errors import EgressRefused, HouseError
from roomtone.mind.delivering import delivered, refused
from roomtone.mind.house import House, lonely_phrase
from roomtone.mind.phrases import Phrases
from roomtone.mind.skills import Asked, Heard


def accepts(heard: Heard) -> bool:
    """Refuse a room's name that means all of them, or that is a part of another sentence."""
    place = heard.match.get("place")
    return place is None or (heard.phrases.is_name(str(place)) and str(place).lower() not in heard.data["everyone"])


async def answer(asked: Asked) -> list[str]:
    """Listen for a message, or send a short answer at once."""
    house, phrases = asked.household.house, asked.phrases.of(asked.phrases.language.say)
    if not house.rooms():
        return [phrases.say(lonely_phrase(house))]
    try:
        return [await _answer(asked, house, phrases)]
    except (HouseError, EgressRefused) as error:
        return [refused(error, phrases)]


async def _answer(asked: Asked, house: House, phrases: Phrases) -> str:
    to = None
    if asked.match.name == "message":
        to = house.find(str(asked.match.get("room") or asked.match.get("place")))
    elif asked.match.name in ("reply", "short"):
        to = house.answer_to()
        if to is None:
            return asked.say("nobody_asked")
    if to is not None and not to.online:
        return phrases.say("house_off", rooms=phrases.say("the_room", room=to.room))
    if asked.match.name == "short":
        asked.household.acts()
        return delivered(await house.announce(asked.match.written("text"), to), phrases)
    house.record_for(to)
    return asked.say("go_ahead")
