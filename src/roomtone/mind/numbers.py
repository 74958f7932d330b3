"""Numbers as people say and type them, and results as people say them."""

from __future__ import annotations

import re
from fractions import Fraction

from roomtone.mind.phrases import Phrases

DECIMALS = 3
"""Places that are said of a number that has more."""

SAYABLE = 10**15
"""From here on a number has more digits than anyone listens to."""


def in_digits(text: str, language: str) -> str:
    """Return a text with its numbers in digits: "twenty one and a half" comes to "21 and a half".

    Words of languages that the library does not know stay as they are.
    """
    from text_to_num import alpha2digit  # not needed until the first number

    try:
        written = alpha2digit(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower()), language, 0)
    except ValueError:
        written = text
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", str(written))


def spoken(number: Fraction, phrases: Phrases, places: int = DECIMALS) -> str:
    """Return a number in words, rounded to some decimal places. Raises OverflowError for one too long to say."""
    if abs(number) >= SAYABLE:
        raise OverflowError(f"{len(str(int(abs(number))))} digits")
    rounded = round(number, places)
    return phrases.number(float(rounded) if rounded.denominator > 1 else int(rounded))


def is_short(number: Fraction, places: int = DECIMALS) -> bool:
    """Say whether a number is said whole, nothing of it rounded off."""
    return round(number, places) == number


def rough(number: Fraction, within: Fraction = Fraction(1, 100)) -> Fraction:
    """Round a measure as a person does: to the fewest decimals, or most zeros, that are right to one in a hundred.

    A whole number, or one that floats missed by a hair, stays as it is.
    """
    if abs(number - round(number)) <= abs(number) / 10**9:
        return Fraction(round(number))
    places = 2 - len(str(int(abs(number)))) if abs(number) >= 1000 else 0
    while places < DECIMALS and abs(round(number, places) - number) > within * abs(number):
        places += 1
    return Fraction(round(number, places))
