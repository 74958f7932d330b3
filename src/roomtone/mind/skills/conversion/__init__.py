"""Measures: one unit in another, and what a cup of something weighs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from roomtone.mind.numbers import in_digits, rough, spoken
from roomtone.mind.skills import Asked, Heard

LONGEST = 40
"""Characters of a number."""

ABSOLUTE_ZERO = Fraction("-273.15")

A_MARK_OFF = 15
"""Degrees Celsius between an oven's heat and a gas mark that is still meant by it."""

MOST_SPOONS = 10
CLOSE_ENOUGH = Fraction(2, 100)
"""Of spoons and cups: up to how many are said in halves and thirds, and how near to one that must be."""

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)|(-?)(?:(\d+) )?(\d+)\s*/\s*([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: what ``kind`` of thing it measures, its ``size`` in the first unit of that kind, and its names."""

    name: str
    kind: str
    size: Fraction
    one: str
    many: str


def accepts(heard: Heard) -> bool:
    """Say whether what stands before the unit is an amount of it."""
    return heard.match.name == "money" or heard.match.get("amount") is None or amount(heard) is not None


async def answer(asked: Asked) -> list[str]:
    """Convert, and round as one says it aloud."""
    if asked.match.name == "money":
        return [asked.say("money")]
    stuff, many = _stuff(asked), amount(asked)
    assert many is not None
    source, target = _units(asked)
    weighs = stuff is not None and {source.kind, target.kind} == {"volume", "weight"}
    if stuff is not None and weighs and stuff not in asked.data["cups"]:
        return [asked.say("unknown_stuff", stuff=stuff)]
    if stuff is None and {source.kind, target.kind} == {"volume", "weight"}:
        return [asked.say("of_what")]
    if source.kind != target.kind and not weighs:
        return [asked.say("different", one=source.many, many=target.many)]
    if source.kind == "temperature":
        return [_temperature(asked, many, source, target)]
    grams = Fraction(asked.data["cups"][stuff]) / unit(asked.data, "cup").size if weighs else Fraction(1)
    result = many * source.size / target.size
    return [_told(asked, many, source, result * grams if source.kind == "volume" else result / grams, target, stuff)]


def _units(asked: Asked) -> tuple[Unit, Unit]:
    """Return the unit that something is in, and the one that it is wanted in."""
    match, data = asked.match, asked.data
    wanted = match.get("wanted")
    if wanted is not None:  # of degrees without a scale it can only be the other one
        return unit(data, "celsius" if wanted == "fahrenheit" else "fahrenheit"), unit(data, wanted)
    named = "inch" if match.get("feet") is not None else match.get("unit")
    source = unit(data, named or "gas_mark")
    target = match.get("target") or _usual(source, gas=named is None)
    return source, unit(data, data["speeds"].get(target, target) if source.kind == "speed" else target)


def unit(data: Any, name: str) -> Unit:
    """Return a unit by its name in the skill's data."""
    kind, size, one, many = data["units"][name]
    return Unit(name, kind, Fraction(size), one, many)


def amount(heard: Heard) -> Fraction | None:
    """Return how many are to be converted, one where no number is named; None where the words are no number."""
    if heard.match.get("feet") is not None:
        return Fraction(12 * int(heard.match.get("feet")) + int(heard.match.get("inches")))
    text = str(heard.match.get("amount", "1"))
    if len(text) > LONGEST:
        return None
    text = in_digits(text, heard.phrases.language.language).strip()
    for said, put in heard.data["amounts"]:
        text = re.sub(said, put, text).strip()
    found = NUMBER.fullmatch(text)
    if found is None:
        return None
    plain, sign, whole, above, below = found.groups()
    if plain:
        return Fraction(plain)
    number = Fraction(int(whole or 0)) + Fraction(int(above), int(below))
    return -number if sign else number


def _stuff(asked: Asked) -> str | None:
    said = asked.match.get("stuff")
    return None if said is None else re.sub(r"^(the|some) ", "", str(said).casefold().strip().replace("’", ""))


def _usual(source: Unit, gas: bool) -> str:
    """Return the unit that is meant where none is named."""
    if source.kind == "temperature":
        return "celsius" if gas else "gas_mark"
    return "gram"


def _temperature(asked: Asked, number: Fraction, source: Unit, target: Unit) -> str:
    marks = {Fraction(mark): Fraction(degrees) for mark, degrees in asked.data["gas_marks"].items()}
    if source.name == "gas_mark" and number not in marks:
        return asked.say("no_mark")
    celsius = {
        "gas_mark": marks.get(number, number),
        "fahrenheit": (number - 32) * Fraction(5, 9),
        "celsius": number,
    }[source.name]
    if celsius < ABSOLUTE_ZERO:
        return asked.say("too_cold")
    nearest = min(marks, key=lambda mark: abs(marks[mark] - celsius))
    if target.name == "gas_mark" and abs(marks[nearest] - celsius) > A_MARK_OFF:
        return asked.say("no_mark")
    if target.name == "gas_mark":
        return _told(asked, number, source, nearest, target, exact=marks[nearest] == celsius)
    return _told(
        asked, number, source, celsius * Fraction(9, 5) + 32 if target.name == "fahrenheit" else celsius, target
    )


def _told(
    asked: Asked,
    number: Fraction,
    source: Unit,
    result: Fraction,
    target: Unit,
    stuff: str | None = None,
    *,
    exact: bool = True,
) -> str:
    shown = rough(result)
    try:
        said = _tall(asked) or _part(asked, number, source) or _measure(asked, number, source)
        came_to = _part(asked, result, target) or _measure(asked, shown, target)
    except OverflowError:
        return asked.say("too_big")
    if stuff is not None:
        said = asked.say("of_stuff", amount=said, stuff=stuff)
    exact = exact and stuff is None and shown == result
    return asked.say("exactly" if exact else "about", from_amount=said, to_amount=came_to[:1].lower() + came_to[1:])


def _measure(asked: Asked, number: Fraction, of: Unit) -> str:
    words = spoken(number, asked.phrases)
    if of.name == "gas_mark":
        return asked.say("mark", number=words)
    return asked.say("measure", number=words, unit=of.one if number == 1 else of.many)


def _tall(asked: Asked) -> str | None:
    """Return feet and inches as they were said; None where there were none."""
    if asked.match.get("feet") is None:
        return None
    parts = [(name, Fraction(asked.match.get(slot))) for slot, name in (("feet", "foot"), ("inches", "inch"))]
    return asked.phrases.joined([_measure(asked, number, unit(asked.data, name)).lower() for name, number in parts])


def _part(asked: Asked, number: Fraction, of: Unit) -> str | None:
    """Return spoons and cups as they are measured out, in halves, thirds and quarters; None where they are not."""
    if number == Fraction(1, 2) and of.kind != "temperature":
        return asked.say("half_an" if of.name in asked.data["an"] else "half", unit=of.one)
    if of.name not in asked.data["spoons"] or not 0 < number < MOST_SPOONS:
        return None
    whole, rest = int(number), number - int(number)
    parts = {Fraction(part): name for part, name in asked.data["parts"].items()}
    near = min(parts, key=lambda part: abs(part - rest))
    if abs(near - rest) > number * CLOSE_ENOUGH:
        return None
    if whole == 0 and near == Fraction(1, 2):
        return asked.say("half", unit=of.one)
    if whole == 0:
        return asked.say("part", part=parts[near], unit=of.one)
    return asked.say("and_part", number=asked.phrases.number(whole), part=parts[near], unit=of.many)
