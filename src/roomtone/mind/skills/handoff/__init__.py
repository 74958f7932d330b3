"""Going on in another room."""

from __future__ import annotations

from roomtone.core.errors import HouseError
from roomtone.core.speakable import in_words
from roomtone.mind.house import lonely_phrase, refusal_phrase
from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Let the conversation go; where that is agreed nothing is said here: the other room speaks.

    Where it stays, an answer that was cut short by this goes on.
    """
    house, said = asked.household.house, asked.phrases.of(asked.phrases.language.say)
    if not house.rooms():
        return [said.say(lonely_phrase(house))]
    wanted = asked.data["bed"] if asked.match.name == "bed" else asked.match.written("room")
    try:
        to = house.find(wanted)
        wanted = to.room
        await asked.household.hand_off(to)
    except HouseError as error:
        why = error.reason
        return [
            said.say(refusal_phrase(why), room=in_words(wanted).removeprefix("the ")),
            asked.household.cut_short(),
        ]
    return []
