"""What goes on in the other rooms."""

from __future__ import annotations

from collections.abc import Sequence

from roomtone.core.errors import HouseError
from roomtone.core.speakable import in_words
from roomtone.mind.delivering import refused, the_rooms
from roomtone.mind.house import Neighbour, lonely_phrase
from roomtone.mind.phrases import Phrases
from roomtone.mind.skills import Asked

JUST_NOW_S = 120.0
RECENT_S = 12 * 3600.0
"""Longer ago than this a room counts as one where nobody was."""


async def answer(asked: Asked) -> list[str]:
    """Tell of one room, or of all that there is something to tell of."""
    house, phrases = asked.household.house, asked.phrases.of(asked.phrases.language.say)
    if not house.rooms():
        return [phrases.say(lonely_phrase(house))]
    try:
        room = asked.match.get("room")
        wanted = house.find(str(room)).room if room is not None else None
        rooms = [each for each in await house.who_is_where() if wanted in (None, each.room)]
    except HouseError as error:
        return [refused(error, phrases)]
    if wanted is not None:
        return [_told(asked, each, phrases) for each in rooms] or [asked.say("unknown")]
    return _all(asked, rooms, phrases)


def _all(asked: Asked, rooms: Sequence[Neighbour], phrases: Phrases) -> list[str]:
    """Tell of each room where somebody is or was, and of the others together."""
    lively = [each for each in rooms if each.online and _key(each) != "nobody"]
    still = [each.room for each in rooms if each.online and each not in lively]
    off = [each.room for each in rooms if not each.online]
    told = [_told(asked, each, phrases) for each in lively]
    told += [asked.say("nobody", rooms=the_rooms(still, phrases))] if still else []
    return told + ([asked.say("off", rooms=the_rooms(off, phrases))] if off else [])


def _key(room: Neighbour) -> str:
    """Return which reply tells how a room stands."""
    if not room.online:
        return "off"
    if room.state not in ("", "idle"):
        return "talking"
    if room.idle_s is None or room.idle_s > RECENT_S:
        return "nobody"
    return "just_now" if room.idle_s < JUST_NOW_S else "was_there"


def _told(asked: Asked, room: Neighbour, phrases: Phrases) -> str:
    ago_s = room.idle_s or 0.0
    unit = 60 if ago_s < 2 * 3600 else 3600
    told = asked.say(
        _key(room),
        rooms=the_rooms([room.room], phrases),
        persona=in_words(room.persona) or asked.say("somebody"),
        ago=asked.phrases.duration(max(1, round(ago_s / unit)) * unit),
    )
    return f"{told} {asked.say('undisturbed')}" if room.quiet and room.online else told
