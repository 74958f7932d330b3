"""What one can ask for, told by the skills' own files."""

from __future__ import annotations

from roomtone.mind.skills import Asked, Skill

EXAMPLES = 2
"""Enough to hear how a question may sound; who wants more asks about a place or a thing."""


MOST = 6
"""Skills that are named at once."""


async def answer(asked: Asked) -> list[str]:
    """Name the skills, those of a place where one is named, and give an example of some."""
    place = asked.match.get("place")
    there = _there(asked)
    described = _named(asked, there) if place is None else [skill for skill in there if place in skill.places]
    if not described:
        return [asked.say("nothing_there", place=place)] if place else []
    about = asked.phrases.joined([skill.about for skill in described])
    more = len([skill for skill in there if skill.about]) - len(described)
    key = "can_there" if place else "can_and_more" if more else "can"
    told = asked.say(key, place=place, skills=about, more=asked.phrases.number(more))
    examples = [skill.examples[0].rstrip(".?!") for skill in described if skill.examples]
    return [told, *(asked.say("try", example=example) for example in examples[:EXAMPLES])]


def _there(asked: Asked) -> list[Skill]:
    """Leave out what needs other rooms, where there are none."""
    alone = not asked.household.house.rooms()
    return [skill for skill in asked.skills if not (alone and skill.data.get("between_rooms"))]


def _named(asked: Asked, there: list[Skill]) -> list[Skill]:
    """Return the skills worth naming first: nobody listens to a list of all. A persona's own go before all."""
    described = {skill.name: skill for skill in there if skill.about}
    own = [skill for skill in described.values() if skill.persona]
    chosen = own + [described[name] for name in asked.data["first"] if name in described]
    return chosen[:MOST] or list(described.values())
