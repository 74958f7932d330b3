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
        agrees: null                             true or false: whether it says yes or no to a question
        replies: false                           whether it is said only to a question of Roomtone's: "fifty-six"
        answers_ring: false                      whether people say it to something that rings
    lists, expansion_rules                    as in hassil; they belong to this skill alone, beside those of
                                              mind/<language>.yaml: lengths of time, times of day, dates;
                                              {given: personas} holds whom the household can talk to, {files: recipes}
                                              what the files recipes/*.<language>.yaml say they are ``called``, and
                                              {files: quizzes, of: answers} what stands in each under that key
    everyones: false                          whether every persona has it, whatever its tools
    places: [kitchen]                         rooms it is for: "What can you do in the kitchen?" (optional)
    data: {}                                  whatever else its code needs to know of the language, beside it what
                                              is in the files of its lists: {recipes: {pancakes: {...}}}
    replies: {time: "It's {time}."}           a text or several of one meaning

``<skill>/__init__.py`` holds ``async def answer(asked: Asked) -> list[str]``: do it, and return the sentences to
say. A skill without code says the reply that is named like the intent. What an exception says, a ToolError
in the person's language, is spoken; anything else becomes a plain apology. ``Offering`` instead of a list asks a
question: who then says yes has asked for the intent that it names. ``def accepts(heard: Heard) -> bool``, where there
is one, has the last word on whether a template's wildcards hold what they should, at once and without waiting for
anything. ``def prepare(data) -> data``, where there is one, reads the skill's ``data`` once, when it is loaded, and
refuses with an exception what is wrong there. What has not answered in some seconds is given up.

A persona's own skills are folders of the same shape in ``personas/<id>/skills``; they go before all others.

Shipped code runs beside the room's sounds and never blocks. A household's own ``answer`` runs on a thread and an
event loop of its own, so that the room hears on while it computes; what it calls of ``asked.household`` is done on
the room's loop, and refused once the answer was given up.

``<skill>/dialogues.<language>.yaml`` holds its tests, conversations by name:

    the time is told:
      - {at: 2026-11-21 16:20, heard: "What time is it?", intent: time, reply: "It's twenty past four."}
      - {later: {minutes: 10}, heard: "and now", like: "half past"}

``at`` and ``later`` (as for timedelta) move the clock, ``given`` sets what the household is; ``reply`` is the whole
answer, or several of which one is given; ``like`` is a regular expression found in it. An ``intent`` of another skill
is written ``skill.intent``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.mind import Household
from roomtone.mind.phrases import Phrases


@dataclass(frozen=True, slots=True)
class Match:
    """A text that was understood: ``skill`` and ``name`` of the intent, and the values found, in order.

    ``text`` is what was heard, as it was written.
    """

    skill: str
    name: str
    slots: tuple[tuple[str, Any], ...] = ()
    unfinished: bool = False
    dismisses: bool = False
    backchannel: bool = False
    opening: bool = False
    agrees: bool | None = None
    text: str = field(default="", compare=False)

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

    def written(self, slot: str) -> str:
        """Return a slot's words with the capitals and commas they had in the text, "" where there are none."""
        words = re.findall(r"\w+", str(self.get(slot, "")))
        found = words and re.search(r"\W+".join(map(re.escape, words)), self.text, re.IGNORECASE)
        return found.group() if found else " ".join(words)


class Exchange(Noun):
    """Something said to a household, and what must come of it: one line of a skill's dialogues."""

    heard: str
    intent: str | None = None
    reply: str | list[str] | None = None
    like: str | None = None
    at: datetime | None = None
    later: dict[str, float] = Field(default_factory=dict)
    given: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skill:
    """What one skill's folder came to; ``persona`` is the id of the one whose own it is."""

    name: str
    answer: Answering | None
    about: str
    examples: tuple[str, ...]
    texts: dict[str, str | list[str]]
    places: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    accepts: Callable[[Heard], bool] | None = None
    dialogues: Mapping[str, tuple[Exchange, ...]] = field(default_factory=dict)
    persona: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What was understood, with the language and the skill's own ``data`` to read it by."""

    match: Match
    phrases: Phrases
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked(Heard):
    """What a skill gets: what was understood, the household, its own replies, and what else there is to ask."""

    household: Household
    skills: tuple[Skill, ...] = ()
    random: Random = field(default_factory=Random)

    def say(self, key: str, **values: object) -> str:
        """Return one of the skill's replies with its values filled in."""
        return self.phrases.say(key, **values)


@dataclass(frozen=True, slots=True)
class Offering:
    """Sentences that end in a question; who agrees has asked for ``intent`` of the same skill, with these slots.

    It holds for the next thing that is said. The slots are kept as JSON.
    """

    sentences: list[str]
    intent: str
    slots: Mapping[str, Any] = field(default_factory=dict)


Answering = Callable[[Asked], Awaitable[list[str] | Offering]]
