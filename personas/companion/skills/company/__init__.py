"""Something to talk about: each line once before any comes again, also after a restart."""

from __future__ import annotations

from random import Random

from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Say the next line; which one that is follows from how many were said before."""
    lines = asked.phrases.texts[asked.match.name]
    round_, place = divmod(await asked.household.times_asked(asked.match.intent), len(lines))
    return [Random(f"{asked.match.name} {round_}").sample(lines, len(lines))[place]]
