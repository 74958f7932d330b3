"""What the room says after somebody set it up by the card: that it is ready, or what is wrong with the file on it."""

from __future__ import annotations

import re

from roomtone.app import Room
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt
from roomtone.first_boot import what_came_of_it

AT_MOST = 2
"""Mistakes that are read out whole; of any further ones only how many there are."""


def tell_of_the_card(room: Room) -> None:
    """Say, once, what came of taking in the card's file."""
    outcome = what_came_of_it(room.settings.state_dir)
    if outcome is None:
        return
    if outcome.outcome == "refused":
        _say(room, "card_refused")
        for mistake in outcome.mistakes[:AT_MOST]:
            _say(room, "card_mistake", what=aloud(mistake))
        if len(outcome.mistakes) > AT_MOST:
            _say(room, "card_mistakes_more", count=len(outcome.mistakes) - AT_MOST)
    else:
        _say(room, "card_ready")
    if outcome.secrets_left:
        _say(room, "card_secrets_left")


def aloud(mistake: dict[str, str]) -> str:
    """Return a mistake as a sentence: keys as words, without the signs that a voice stumbles over."""
    key = re.sub(r"[._]+", " ", mistake.get("key", ""))
    parts = [mistake.get("where", ""), key, mistake.get("wrong", "")]
    sentence = ": ".join(part for part in parts if part)
    mend = mistake.get("mend", "")
    whole = f"{sentence}. {mend[:1].upper()}{mend[1:]}".strip()
    return re.sub(r"[`'\"{}\[\]]", "", whole if whole.endswith(("?", ".")) else f"{whole}.")


def _say(room: Room, phrase: str, **values: object) -> None:
    text = room.conversation.speaker.phrases.say(phrase, **values)
    room.parts.quiet.mention(Prompt(text, Source.SCHEDULE, verbatim=True))
