"""What one can ask for, told by the skills' own files."""

from __future__ import annotations

from roomtone.mind.skills import Asked

EXAMPLES = 2


async def answer(asked: Asked) -> list[str]:
    """Name the skills, and give an example of some."""
    described = [skill for skill in asked.skills if skill.about]
    if not described:
        return []
    can = asked.say("can", skills=asked.phrases.joined([skill.about for skill in described]))
    examples = [skill.examples[0] for skill in described if skill.examples]
    return [can, *(asked.say("try", example=example.rstrip(".?!")) for example in examples[-EXAMPLES:])]
