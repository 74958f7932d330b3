"""What Roomtone can do by itself. A folder is a skill: what people say and what it replies, and what it does.

``<skill>/<language>.yaml`` holds, for each intent, sentence templates in hassil's notation, and all replies:

    language: en
    about: tell the time                      how "What can you do?" names it (optional)
    intents:
      time:
        sentences: ["what time (is it|it is)"]   a whole command
        unfinished: ["time in"]                  understood too, but more words usually follow
        loose: ["time in {any_city}"]            only for typed text and good recognisers: not in the grammar
        samples: ["what time is it"]             each must be recognised as this intent; the first is an example
        dismisses: false                         whether the person wants silence
        backchannel: false                       whether it is said while listening, not to take the floor
        bare: false                              whether nobody says "please" or "can you" around it
        opening: false                           whether it greets: said into a reply it asks for the floor
    lists, expansion_rules                    as in hassil; they belong to this skill alone
    replies: {time: "It's {time}."}           a text or several of one meaning

``<skill>/__init__.py`` holds ``async def answer(asked: Asked) -> list[str]``: do it, and return the sentences to
say. A skill without code says the reply that is named like the intent. What an exception says, a ToolError
in the person's language, is spoken; anything else becomes a plain apology.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from roomtone.mind import Household
from roomtone.mind.phrases import Phrases


@dataclass(frozen=True, slots=True)
class Match:
    """A text that was understood: ``skill`` and ``name`` of the intent, and the values found, in order."""

    skill: str
    name: str
    slots: tuple[tuple[str, Any], ...] = ()
    unfinished: bool = False
    dismisses: bool = False
    backchannel: bool = False
    opening: bool = False

    @property
    def intent(self) -> str:
        """Return the intent as a turn records it (``timer.set``)."""
        return f"{self.skill}.{self.name}"

    def get(self, slot: str, default: Any = None) -> Any:
        """Return the first value of a slot."""
        return next((value for name, value in self.slots if name == slot), default)

    def total(self, slot: str) -> int:
        """Return the sum of a slot's values: a duration may name its seconds twice."""
        return int(sum(value for name, value in self.slots if name == slot))


@dataclass(frozen=True, slots=True)
class Skill:
    """What one skill's folder came to."""

    name: str
    answer: Answering | None
    about: str
    examples: tuple[str, ...]
    texts: dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a skill gets: what was understood, the household, its own replies, and what else there is to ask."""

    match: Match
    household: Household
    phrases: Phrases
    skills: tuple[Skill, ...] = ()

    def say(self, key: str, **values: object) -> str:
        """Return one of the skill's replies with its values filled in."""
        return self.phrases.say(key, **values)


Answering = Callable[[Asked], Awaitable[list[str]]]
