"""Stories, told a sentence at a time: who interrupts one can have it go on with the sentence that was not heard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter

from roomtone.core.dialog import Noun
from roomtone.mind.skills import Asked

PLACE = "story"
"""What the last telling is remembered under: which story, from which sentence on, and the words said before that."""

TELLING = ("stories.tell", "stories.go_on", "stories.again")
"""Intents whose answer is a story."""

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’]?\s+")


class Story(Noun):
    """A story, and what people call it."""

    called: tuple[str, ...] = Field(min_length=1)
    title: str = Field(min_length=1)
    text: str = Field(min_length=1)

    @property
    def sentences(self) -> list[str]:
        """Its sentences."""
        return SENTENCE_END.split(" ".join(self.text.split()))


STORIES = TypeAdapter(dict[str, Story])


def prepare(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the stories. Raises ValidationError for one that is wrong."""
    return {**data, "stories": STORIES.validate_python(data["stories"])}


@dataclass(frozen=True, slots=True)
class Place:
    """A story, and the sentence that comes next in it."""

    story: str
    sentence: int = 0


async def answer(asked: Asked) -> list[str]:
    """Tell a story, go on with it, or say good night; where it stopped is known afterwards."""
    stories: Mapping[str, Story] = asked.data["stories"]
    if not stories:
        return [asked.say("nothing")]
    place = await _place(asked, stories)
    match asked.match.name:
        case "tell":
            return await _tell(asked, Place(asked.match.get("story") or _following(place, stories)))
        case "again":
            return await _tell(asked, Place(place.story if place else next(iter(stories))))
        case "go_on":
            return await _go_on(asked, place or Place(next(iter(stories))), stories)
    if place is not None:
        await _remember(asked, place, told=False)
    titles = [story.title for story in stories.values()]
    return [asked.say(asked.match.name, titles=asked.phrases.joined(titles))]


async def _place(asked: Asked, stories: Mapping[str, Story]) -> Place | None:
    """Return where the last story stopped: behind the last sentence of it that was heard to its end."""
    last = await asked.household.remembered(PLACE)
    if last is None or last["story"] not in stories:
        return None
    sentences = stories[last["story"]].sentences
    turn = await asked.household.last_answer(asked.match.skill) if last["told"] else None
    if turn is None or turn.intent not in TELLING:
        return Place(last["story"], last["from"])
    words, place = len(turn.spoken.split()) - last["lead"], last["from"]
    while place < len(sentences) and words >= len(sentences[place].split()):
        words -= len(sentences[place].split())
        place += 1
    return Place(last["story"], place)


def _following(place: Place | None, stories: Mapping[str, Story]) -> str:
    """Return the story after the last one, and after all of them the first again."""
    names = list(stories)
    return names[(names.index(place.story) + 1) % len(names)] if place else names[0]


async def _go_on(asked: Asked, place: Place, stories: Mapping[str, Story]) -> list[str]:
    if place.sentence < len(stories[place.story].sentences):
        return await _tell(asked, place)
    await _remember(asked, place, told=False)
    return [asked.say("over")]


async def _tell(asked: Asked, place: Place) -> list[str]:
    story: Story = asked.data["stories"][place.story]
    lead = asked.say("resumed") if place.sentence else asked.say("title", title=story.title)
    await _remember(asked, place, told=True, lead=lead)
    return [lead, *story.sentences[place.sentence :], asked.say("end")]


async def _remember(asked: Asked, place: Place, *, told: bool, lead: str = "") -> None:
    kept = {"story": place.story, "from": place.sentence, "lead": len(lead.split()), "told": told}
    await asked.household.remember(PLACE, kept)
