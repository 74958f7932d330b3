"""Who answers best: the persona whose name, description, purpose and tags a request fits, where one clearly does."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roomtone.core.errors import RoomtoneError
from roomtone.core.persona import Persona
from roomtone.engines.embed import Embed
from roomtone.mind import Household
from roomtone.mind.relevance import in_meaning, rarity, telling_words, together
from roomtone.mind.talking import Talking

SURE = 0.3
"""How well a request must fit who is chosen, 0 to 1: a tag is one telling word of three, or a meaning is near."""

MARGIN = 0.2
"""By how much that must be more than fits anybody else, who speaks included: a doubt changes nothing."""

LONGEST = 40
"""Telling words of a request or a persona that are looked at."""

SHORTEST, ENDING = 4, 3
"""Letters of a word's beginning that are enough, and of an ending that makes no difference: cook, cooking."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who answers a turn instead of who speaks, what they talk with, and the household as they see it."""

    persona: Persona
    talking: Talking
    household: Household


class Chooser:
    """Chooses by words, and where there is an ``embed`` by meaning too; what personas mean is kept.

    ``small`` are the words that say nothing.
    """

    def __init__(self, small: Container[str], embed: Embed | None = None) -> None:
        self._small = small
        self._embed = embed
        self._meanings: dict[str, npt.NDArray[np.float32]] = {}

    async def fitting(self, text: str, personas: Sequence[Persona], present: Persona) -> Persona | None:
        """Return who should answer a text instead of who is ``present``; None where nobody clearly should."""
        everybody = list({each.id: each for each in (*personas, present)}.values())
        meanings = await self._by_meaning(text, everybody)
        scores = map(together, by_words(text, everybody, self._small), meanings)
        (best, winner), *others = sorted(zip(scores, everybody, strict=True), key=lambda each: -each[0])
        clearly = best >= SURE and all(best - score >= MARGIN for score, _ in others)
        return winner if clearly and winner.id != present.id else None

    async def _by_meaning(self, text: str, personas: Sequence[Persona]) -> list[float]:
        if self._embed is None:
            return [0.0] * len(personas)
        abouts = [about(each) for each in personas]
        new = [each for each in abouts if each not in self._meanings]
        try:
            found = await self._embed.embed([text, *new])
        except RoomtoneError:  # its own line has said so; words are enough
            return [0.0] * len(personas)
        self._meanings |= dict(zip(new, found[1:], strict=True))
        return [in_meaning(float(self._meanings[each] @ found[0])) for each in abouts]


def about(persona: Persona) -> str:
    """Return what a persona is known by."""
    return " ".join([persona.name, persona.description, persona.purpose, *persona.tags])


def by_words(text: str, personas: Sequence[Persona], small: Container[str]) -> list[float]:
    """Return how well a text fits each persona, 0 to 1, by its words: rare ones count for more.

    A name and tags are there to be called by; what a description says besides is only half as good.
    """
    asked = telling_words(text, small, LONGEST)
    named = [_held(asked, " ".join([each.name, *each.tags]), small) for each in personas]
    said = [_held(asked, about(each), small) for each in personas]
    weights = {word: rarity(sum(word in each for each in said), len(personas)) for word in asked}
    whole = sum(weights.values())

    def score(name: set[str], description: set[str]) -> float:
        return sum(weights[word] * (1.0 if word in name else 0.5) for word in description) / whole

    return [score(*each) for each in zip(named, said, strict=True)] if whole else [0.0] * len(personas)


def _held(asked: Sequence[str], text: str, small: Container[str]) -> set[str]:
    known = telling_words(text, small, 10 * LONGEST)
    return {word for word in asked if any(_same(word, other) for other in known)}


def _same(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= SHORTEST and long.startswith(short) and len(long) - len(short) <= ENDING)
