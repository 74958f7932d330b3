"""Coins, dice and other things that are left to chance."""

from __future__ import annotations

import re

from roomtone.mind.numbers import in_digits
from roomtone.mind.skills import Asked, Heard

SIDES = 6

MOST_DIGITS = 9
"""Of a number to pick."""


def accepts(heard: Heard) -> bool:
    """Say whether there is something to choose between."""
    if heard.match.name == "choose":
        return len(_options(heard)) > 1 and not _options(heard)[0].startswith(heard.data["no_option"])
    return heard.match.name != "number" or heard.match.get("low") is None or _bounds(heard) is not None


async def answer(asked: Asked) -> list[str]:
    """Toss, roll or pick, and say what came."""
    match, random = asked.match, asked.random
    if match.name == "coin":
        return [asked.say("coin", side=random.choice(asked.data["coin"]))]
    if match.name == "choose":
        return [asked.say("choose", choice=random.choice(_options(asked)))]
    if match.name == "number":
        low, high = _bounds(asked) or (asked.data["from"], asked.data["to"])
        return [asked.say("number", number=asked.phrases.number(random.randint(low, high)))]
    sides, count = int(match.get("sides", SIDES)), int(match.get("count", 1))
    rolled = [random.randint(1, sides) for _ in range(count)]
    words = [asked.phrases.number(number) for number in rolled]
    if len(rolled) == 1:
        return [asked.say("one", number=words[0])]
    return [asked.say("several", numbers=asked.phrases.joined(words), sum=asked.phrases.number(sum(rolled)))]


def _options(heard: Heard) -> list[str]:
    return [option for option in re.split(heard.data["between"], heard.match.written("options")) if option]


def _bounds(heard: Heard) -> tuple[int, int] | None:
    language = heard.phrases.language.language
    named = [in_digits(str(heard.match.get(slot, "")), language).strip() for slot in ("low", "high")]
    if not all(re.fullmatch(rf"\d{{1,{MOST_DIGITS}}}", number) for number in named):
        return None
    low, high = sorted(map(int, named))
    return low, high
