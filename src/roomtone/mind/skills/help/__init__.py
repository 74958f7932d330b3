"""What one can ask for, told by the skills' own files."""

from __future__ import annotations

from roomtone.mind.skills import Asked, Skill

EXAMPLES = 2
"""Enough to hear how a question may sound; who wants more asks about a place or a thing."""


async def answer(asked: Asked) -> list[str]:
    """Name the skills, those of a place where one is named, and give an example of some."""
    place = asked.match.get("place")
    described = [skill for skill in asked.skills if skill.about and (place is None or place in skill.places)]
    if not described:
        return [asked.say("nothing_there", place=place)] if place else []
    about = asked.phrases.joined([skill.about for skill in described])
    told = asked.say("can_there", place=place, skills=about) if place else asked.say("can", skills=about)
    return [told, *(asked.say("try", example=example) for example in _examples(described, place is not None))]


def _examples(skills: list[Skill], each: bool) -> list[str]:
    """Return one example of each skill, or of the last some, without the mark at its end."""
    examples = [skill.examples[0].rstrip(".?!") for skill in skills if skill.examples]
    return examples if each else examples[-EXAMPLES:]
