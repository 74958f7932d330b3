"""Numbers, times, dates, money, units, abbreviations and symbols, as English speaks them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from hassil.numbers import get_rbnf_engine
from unicode_rbnf import FormatPurpose, RbnfEngine

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

ABBREVIATIONS = {
    "dr.": "Doctor", "mr.": "Mister", "mrs.": "Missus", "ms.": "Miz", "prof.": "Professor", "rev.": "Reverend",
    "gen.": "General", "sen.": "Senator", "rep.": "Representative", "st.": "Saint", "jr.": "Junior", "sr.": "Senior",
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately",
    "a.m.": "a m", "p.m.": "p m", "dept.": "department", "est.": "established",
    "ave.": "avenue", "blvd.": "boulevard",
    "w/": "with", "w/o": "without", "a.k.a.": "also known as", "cf.": "compare",
}  # fmt: skip

UNITS = {
    "km": "kilometre", "m": "metre", "cm": "centimetre", "mm": "millimetre", "mi": "mile", "ft": "foot",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "l": "litre", "L": "litre", "ml": "millilitre", "mL": "millilitre", "cl": "centilitre", "dl": "decilitre",
    "fl oz": "fluid ounce", "tbsp": "tablespoon", "tsp": "teaspoon", "gal": "gallon", "pt": "pint",
    "km/h": "kilometre per hour", "kph": "kilometre per hour", "mph": "mile per hour", "m/s": "metre per second",
    "°C": "degree Celsius", "℃": "degree Celsius", "°F": "degree Fahrenheit", "℉": "degree Fahrenheit", "°": "degree",
    "m²": "square metre", "m2": "square metre", "km²": "square kilometre", "m³": "cubic metre", "ha": "hectare",
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second", "sec": "second",
    "secs": "second", "ms": "millisecond",
    "kWh": "kilowatt hour", "kW": "kilowatt", "W": "watt", "V": "volt", "mV": "millivolt",
    "A": "amp", "mA": "milliamp",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "dB": "decibel",
    "hPa": "hectopascal", "kcal": "kilocalorie", "kJ": "kilojoule", "cal": "calorie",
    "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte",
    "%": "percent",
}  # fmt: skip
PLURALS = {"foot": "feet", "hertz": "hertz", "megahertz": "megahertz", "percent": "percent"}

CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}

FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
DENOMINATORS = {
    2: "half",
    3: "third",
    4: "quarter",
    5: "fifth",
    6: "sixth",
    8: "eighth",
    10: "tenth",
    16: "sixteenth",
}

SYMBOLS = {
    "&": " and ", "@": " at ", "+": " plus ", "=": " equals ", "×": " times ", "÷": " divided by ", "≈": " about ",
    "±": " plus or minus ", "→": " to ", "←": " from ", "§": " section ", "©": " ", "®": " ", "™": " ", "√": " root ",
    "≤": " at most ", "≥": " at least ", "≠": " is not ", "²": " squared ", "³": " cubed ", "%": " percent ",
    "°": " degrees ", "$": " dollars ", "€": " euros ", "£": " pounds ", "¥": " yen ", "№": " number ",
}  # fmt: skip

LONGEST_NUMBER = 12
"""Digits of the longest number that is said as one; longer ones are read digit by digit."""

GLUED_UNITS = frozenset("AVW")
"""Units that are only taken for units right behind the number: "5 A" may be anything."""

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?"
_MONTH = "|".join(sorted([*MONTHS, *(month[:3] for month in MONTHS), "Sept"], key=len, reverse=True))
_UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
_PARTED = "|".join(
    re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True) if unit[0].isalpha() and len(unit) < 6
)
_MEASURE = "cup|teaspoon|tablespoon|pint|mile|inch|litre|liter|hour|pound|kilo|gallon|minute|second|kilometre|metre"


@functools.cache
def _formatter() -> RbnfEngine:
    return get_rbnf_engine("en")


@functools.lru_cache(4096)
def _said(number: str, purpose: FormatPurpose) -> str:
    value = float(number) if "." in number else int(number)
    return _formatter().format_number(value, purpose).text


def cardinal(number: str) -> str:
    """Say a number as written (``1,234.5``); digit by digit where it is long or begins with a nought."""
    whole, _, decimals = number.replace(",", "").partition(".")
    if len(whole) > LONGEST_NUMBER or (len(whole) > 1 and whole[0] == "0"):
        said = digits(whole)
    else:
        said = _said(whole, FormatPurpose.CARDINAL)
    return f"{said} point {digits(decimals)}" if decimals else said


def ordinal(number: str) -> str:
    """Say a whole number as a rank: ``21`` is twenty-first."""
    return _said(number, FormatPurpose.ORDINAL) if len(number) <= LONGEST_NUMBER else cardinal(number)


def year(number: str) -> str:
    """Say a year: ``1999`` is nineteen ninety-nine."""
    return _said(number, FormatPurpose.YEAR)


def digits(number: str) -> str:
    """Say every digit by itself."""
    return " ".join(_said(digit, FormatPurpose.CARDINAL) for digit in number)


def clock(hour: int, minute: int, half: str = "") -> str:
    """Say a time of day; ``half`` is ``a``, ``p`` or "" where it was not written."""
    if not half and (hour > 12 or hour == 0):
        half = "a" if hour < 12 else "p"
    said = cardinal(str((hour - 1) % 12 + 1))
    if minute:
        said += f" oh {cardinal(str(minute))}" if minute < 10 else f" {cardinal(str(minute))}"
    elif not half:
        said += " o'clock"
    return f"{said} {half} m" if half else said


def plural(unit: str) -> str:
    """Return the plural of a unit: its first noun carries it (``metres per second``)."""
    noun, per, rest = unit.partition(" per ")
    *before, last = noun.split()
    if last in ("Celsius", "Fahrenheit"):
        return f"{plural(before[0])} {last}"
    many = PLURALS.get(last) or (f"{last[:-1]}ies" if last.endswith("y") else f"{last}s")
    return " ".join([*before, many]) + per + rest


def _time(found: re.Match[str]) -> str:
    hour, minute, half = int(found["hour"]), int(found["minute"] or 0), (found["half"] or "").lower()
    if hour > 24 or minute > 59:
        return found.group()
    return clock(hour % 24, minute, half)


def _date(day: str, month: str, in_year: str | None) -> str:
    number = next(index for index, name in enumerate(MONTHS) if name.startswith(month[:3]))
    said = f"{MONTHS[number]} {ordinal(str(int(day)))}"
    return f"{said}, {year(in_year)}" if in_year else said


def _iso_date(found: re.Match[str]) -> str:
    month, day = int(found[2]), int(found[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found.group()
    return _date(str(day), MONTHS[month - 1], found[1])


def _slashed_date(found: re.Match[str]) -> str:
    """Read month/day/year, or day/month/year where only that can be."""
    first, second = int(found[1]), int(found[2])
    month, day = (first, second) if first <= 12 else (second, first)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return found.group()
    return _date(str(day), MONTHS[month - 1], found[3])


def _money(found: re.Match[str]) -> str:
    amount = (found["amount"] or found["before"]).replace(",", "")
    one, small = CURRENCIES[found["sign"] or found["behind"]]
    if found["scale"]:
        scale = {"k": "thousand", "m": "million", "bn": "billion"}.get(found["scale"].lower(), found["scale"])
        return f"{cardinal(amount)} {scale} {plural(one) if one != 'yen' else one}"
    whole, _, part = amount.partition(".")
    said = f"{cardinal(whole)} {one if whole == '1' or one == 'yen' else plural(one)}"
    if len(part) == 2 and int(part):
        few = "pence" if small == "penny" and int(part) > 1 else small if int(part) == 1 else plural(small)
        said += f" and {cardinal(str(int(part)))} {few}"
    return said


def _fraction(found: re.Match[str]) -> str:
    whole, top, bottom, measure = found["whole"], int(found["top"]), int(found["bottom"]), found["measure"]
    unit = UNITS.get(found["unit"] or "") or CURRENCIES.get(found["unit"] or "", ("",))[0]
    measure = measure or (plural(unit) if whole and unit else unit)
    if bottom not in DENOMINATORS or top >= bottom:
        return f"{cardinal(found['top'])} over {cardinal(found['bottom'])}" if not whole else found.group()
    part = DENOMINATORS[bottom]
    said = part if top == 1 else f"{cardinal(str(top))} {plural(part) if part != 'half' else 'halves'}"
    if whole:
        return f"{cardinal(whole)} and {'a ' if top == 1 else ''}{said}" + (f" {measure}" if measure else "")
    if not measure:
        return f"one {said}" if top == 1 else said
    a = "an" if re.match("hour|[aiou]|e(?!u)", measure) else "a"
    return f"half {a} {measure}" if part == "half" else f"{'a ' if top == 1 else ''}{said} of {a} {measure}"


def _measured(found: re.Match[str]) -> str:
    sign, number, gap, unit = found["sign"], found["number"], found["gap"], found["unit"]
    if gap and unit in GLUED_UNITS:
        return found.group()
    one = UNITS[unit]
    return f"{'minus ' if sign else ''}{cardinal(number)} {one if number == '1' else plural(one)}"


def _decade(found: re.Match[str]) -> str:
    said = year(found[1])
    return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"


def _range(found: re.Match[str]) -> str:
    return f"{found[1]} to "


_RULES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
    (re.compile(f"(\\d?)([{''.join(FRACTIONS)}]) ?"), lambda found: f"{found[1]} {FRACTIONS[found[2]]} ".lstrip()),
    (re.compile(r"(?<=\d) ?° ?(?=[CF]\b)"), lambda _: "°"),
    (re.compile(r"(?<![\d.,])(\d+),(?=\d\d ?[€£$])"), lambda found: f"{found[1]}."),
    (re.compile(r"(?<![\w./])(50/50|24/7)(?![\w./])"), lambda found: " ".join(map(cardinal, found[1].split("/")))),
    (re.compile(r"(?<![\w.,-])(1[1-9]\d0|20\d0)['’]?s\b"), _decade),
    (
        re.compile(r"(?<![\w-])\+?(?:\d{1,3}[ -])?(?:\(\d{3}\) ?|\d{3}[ -])?\d{3}-\d{4}(?![\w-])"),
        lambda found: ", ".join(digits(group) for group in re.findall(r"\d+", found.group())),
    ),
    (
        re.compile(
            r"(?<![\w:.])(?P<hour>\d{1,2})(?::(?P<minute>\d\d))? ?"
            r"(?P<half>[AaPp])(?:\. ?[Mm]\.|[Mm]\b)"
        ),
        _time,
    ),
    (re.compile(r"(?<![\w:.])(?P<hour>[0-2]?\d):(?P<minute>[0-5]\d)(?![:\d])(?P<half>)"), _time),
    (re.compile(r"(?<![\d-])(\d{4})-(\d\d)-(\d\d)(?![\d-])"), _iso_date),
    (re.compile(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4})(?![\w/])"), _slashed_date),
    (
        re.compile(rf"\b({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)(?:,? (1[1-9]\d\d|20\d\d)\b)?"),
        lambda found: _date(found[2], found[1], found[3]),
    ),
    (
        re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? ({_MONTH})\b\.?(?:,? (1[1-9]\d\d|20\d\d)\b)?"),
        lambda found: _date(found[1], found[2], found[3]),
    ),
    (
        re.compile(
            rf"(?:(?P<sign>[$€£¥])\s?(?P<amount>{_NUMBER})|(?<![\w.,/])(?P<before>{_NUMBER})\s?(?P<behind>[€£¥$]))"
            r"(?:\s?(?P<scale>thousand|million|billion|trillion|k|m|bn|K|M)\b)?"
        ),
        _money,
    ),
    (
        re.compile(
            rf"(?<![\w/.,])(?:(?P<whole>\d{{1,3}})[ -])?(?P<top>\d{{1,4}})/(?P<bottom>\d{{1,4}})"
            rf"(?![\w/])(?: (?P<measure>{_MEASURE})\b| ?(?P<unit>{_PARTED}|[€£$])(?!\w))?"
        ),
        _fraction,
    ),
    (re.compile(r"(?<![\d.,-])(\d{1,3}(?:\.\d+)?) ?[-–—] ?(?=\d{1,3}(?:\.\d+)?(?![\d-]))"), _range),
    (re.compile(r"(?<![\d.,-])(\d{4}) ?[-–—] ?(?=\d{4}(?![\d-]))"), _range),
    (
        re.compile(
            rf"(?:(?<![\w)])(?P<sign>[-−]))?(?<![\w.])(?P<number>{_NUMBER})"
            rf"(?P<gap> ?)(?P<unit>{_UNIT})(?![\w/²³])"
        ),
        _measured,
    ),
    (re.compile(r"(?:#|\b[Nn]o\.|\bnr\.)\s?(?=\d)"), lambda _: "number "),
    (re.compile(r"(?<![\w.,])(\d{1,12})(?:st|nd|rd|th)\b"), lambda found: ordinal(found[1])),
    (
        re.compile(r"(?<=\b(?:[Ii]n|[Oo]f|[Bb]y|to)) (1[1-9]\d\d|20\d\d)(?![\w,.:]\w)(?!\w)"),
        lambda found: f" {year(found[1])}",
    ),
]

_ABBREVIATION = re.compile(
    r"(?<![\w.])(?:"
    + "|".join(re.escape(short) for short in sorted(ABBREVIATIONS, key=len, reverse=True))
    + r")(?!\w)",
    re.IGNORECASE,
)
_STREET = re.compile(r"(?<=[a-z] )St\.(?! [A-Z])")
_TIMES = re.compile(r"(?<=\d)\s*[*]\s*(?=\d)|(?<=\d)\s?x\s?(?=\d)")
_MINUS = re.compile(r"(?<=\d)\s+[-−]\s+(?=\d)|(?<![\w)])[-−](?=\d)|−")
_ABOUT = re.compile(r"(?<!\w)~\s?(?=\d)")
_COMPARED = re.compile(r"(?<=\s)([<>])(?=\s)|(?<=\d)([<>])(?=\d)")
_DASH = re.compile(r"\s+[-–—]+\s+|—|–")
_SLASH = re.compile(r"\band/or\b|(?<=\w)\s?/\s?(?=\w)|/")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
_VERSION = re.compile(r"\d+(?:\.\d+){2,}")
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_ANY_NUMBER = re.compile(_NUMBER)
_SYMBOL = re.compile("[" + re.escape("".join(SYMBOLS)) + "]")


def spoken(text: str) -> str:
    """Return an English text with its numbers and symbols written out as words."""
    for pattern, rule in _RULES:
        text = pattern.sub(rule, text)
    text = _STREET.sub("Street", text)
    text = _ABBREVIATION.sub(lambda found: ABBREVIATIONS[found.group().lower()], text)
    text = _MAIL.sub(lambda found: found.group().replace("@", " at ").replace(".", " dot "), text)
    text = _TIMES.sub(" times ", text)
    text = _MINUS.sub(" minus ", text)
    text = _ABOUT.sub("about ", text)
    text = _COMPARED.sub(lambda found: " less than " if "<" in found.group() else " more than ", text)
    text = _DASH.sub(", ", text)
    text = _SLASH.sub(lambda found: "or" if found.group() == "and/or" else " or " if found.start() else " ", text)
    text = _SYMBOL.sub(lambda found: SYMBOLS[found.group()], text)
    text = _VERSION.sub(lambda found: " point ".join(cardinal(part) for part in found.group().split(".")), text)
    text = _BETWEEN_DIGITS.sub(" ", text)
    return _ANY_NUMBER.sub(lambda found: cardinal(found.group()), text)
