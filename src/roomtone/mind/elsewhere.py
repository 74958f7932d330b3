"""What is to ring in other rooms, as a list of this room's own tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from roomtone.core.dialog import TimerKind
from roomtone.core.speakable import in_words
from roomtone.mind.house import ElsewhereTimer
from roomtone.mind.skills import Asked

TOLD = 3
"""What is told of one room one by one; of more the number is told."""


async def elsewhere(asked: Asked, kind: TimerKind) -> list[ElsewhereTimer]:
    """List what is to ring in other rooms, the next first; none, soon, where the hub does not answer."""
    house = asked.household.house
    if not house.rooms():
        return []
    return [each for each in await house.timers() if each.timer.kind is kind and not each.timer.missed]


def told_there(
    asked: Asked, found: Sequence[ElsewhereTimer], tell: Callable[[ElsewhereTimer], str], *, alone: bool
) -> list[str]:
    """Return a sentence for each room, by the skill's own ``there``; ``alone``: nothing was told before it."""
    lines: list[str] = []
    for room in dict.fromkeys(each.room for each in found):
        here = [each for each in found if each.room == room]
        texts = [tell(each) for each in here[:TOLD]]
        if more := len(here) - TOLD:
            texts += [asked.say("more_there", count=asked.phrases.number(more))] if more > 0 else []
        key = "there" if alone and not lines else "and_there"
        lines.append(asked.say(key, room=in_words(room), texts=asked.phrases.joined(_small(texts))))
    return lines


def _small(texts: Iterable[str]) -> list[str]:
    return [text[:1].lower() + text[1:] for text in texts]
