"""Every sentence the room itself can say, from template files: code fills in values and knows no language."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hassil.numbers import get_rbnf_engine
from pydantic import Field, ValidationError
from unicode_rbnf import FormatPurpose

from roomtone.core.dialog import Noun
from roomtone.core.errors import ConfigError

Choose = Callable[[Sequence[str]], str]
Texts = Mapping[str, str | list[str]]

NIGHT_S = 3 * 3600
"""Until this long after midnight it is still the night of the day before."""

LONGEST_NAME = 3
"""Words in a name that somebody gives a timer."""

UNITS = (("hour", 3600), ("minute", 60), ("second", 1))


class Units(Noun):
    """How numbers are joined, and the units of time as [one, many]."""

    between: str
    before_last: str
    hour: list[str]
    minute: list[str]
    second: list[str]


class Polite(Noun):
    """Templates of what may stand around a command: what a recogniser listens for, and what text may hold as well."""

    spoken: list[str]
    typed: list[str]


class Language(Noun):
    """A language's own file, ``mind/<language>.yaml``: what belongs to no single skill."""

    language: str
    before: Polite
    after: Polite
    hesitations: list[str]
    unfinished_words: list[str]
    numbers: Units
    weekdays: list[str]
    months: list[str]
    times: dict[str, str]
    parts: dict[int, str]
    days: dict[str, str]
    not_in_names: frozenset[str]
    person: dict[str, str]
    lists: dict[str, dict[str, Any]] = Field(default_factory=dict)
    expansion_rules: dict[str, str] = Field(default_factory=dict)
    say: dict[str, str | list[str]]
    small_words: frozenset[str] = frozenset()
    prompt: dict[str, str] = Field(default_factory=dict)


def first(variants: Sequence[str]) -> str:
    """Choose the first wording: the same words for the same event, every time."""
    return variants[0]


@cache
def load_language(language: str) -> Language:
    """Read a language's file. Raises ConfigError for a language that has none."""
    path = Path(__file__).parent / f"{language}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.yaml")))
        raise ConfigError(f"language: there is no '{language}'; choose one of {known}")
    try:
        return Language.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Phrases:
    """Words for events, numbers and times of one language.

    ``texts`` maps a key to a wording or to several of one meaning, among which ``choose`` picks.
    """

    language: Language
    texts: Texts
    choose: Choose = first

    @staticmethod
    def load(language: str = "en", choose: Choose = first) -> Phrases:
        """Return the phrases that the room says by itself. Raises ConfigError for a language that has none."""
        read = load_language(language)
        return Phrases(read, read.say, choose)

    def of(self, texts: Texts) -> Phrases:
        """Return phrases of the same language with other texts: those of one skill."""
        return Phrases(self.language, texts, self.choose)

    def say(self, key: str, **values: object) -> str:
        """Return the sentence for a key with its values filled in, its first letter a capital.

        Raises KeyError for a key or a value that the texts do not have.
        """
        found = self.texts[key]
        text = (found if isinstance(found, str) else self.choose(found)).format(**values)
        return text[:1].upper() + text[1:]

    def number(self, number: float) -> str:
        """Return a number in words (minus three point five)."""
        engine = get_rbnf_engine(self.language.language)
        if number < 0 and number != int(number):  # the library drops the decimals behind this sign
            return f"{engine.format_number(-1).text.split()[0]} {engine.format_number(-number).text}"
        return engine.format_number(number).text

    def ordinal(self, number: int) -> str:
        """Return a place in a row in words (twenty-first)."""
        engine = get_rbnf_engine(self.language.language)
        return engine.format_number(number, purpose=FormatPurpose.ORDINAL).text

    def year(self, year: int) -> str:
        """Return a year in words (twenty twenty-six)."""
        return get_rbnf_engine(self.language.language).format_number(year, purpose=FormatPurpose.YEAR).text

    def duration(self, seconds: int) -> str:
        """Return a length of time in words, to the second (one hour and thirty minutes)."""
        units = self.language.numbers
        parts: list[str] = []
        for unit, size in UNITS:
            count, seconds = divmod(seconds, size)
            if count or (unit == "second" and not parts):
                one, many = getattr(units, unit)
                parts.append(f"{self.number(count)} {one if count == 1 else many}")
        return self.joined(parts)

    def length(self, seconds: int) -> str:
        """Return a length of time as a name has it (the ten minute timer)."""
        units = self.language.numbers
        parts = []
        for unit, size in UNITS:
            count, seconds = divmod(seconds, size)
            parts += [f"{self.number(count)} {getattr(units, unit)[0]}"] if count else []
        return " ".join(parts)

    def joined(self, parts: Sequence[str]) -> str:
        """Return things in a row as one enumerates them aloud."""
        *some, last = parts
        numbers = self.language.numbers
        return numbers.before_last.join([numbers.between.join(some), last] if some else [last])

    def time(self, at: datetime) -> str:
        """Return a time of day as a person says it (twenty past four)."""
        times = self.language.times
        minute = "under_ten" if at.minute < 10 else "other"
        template = times.get(f"{at:%H:%M}") or times.get(f"{at::%M}") or times[minute]
        return template.format(
            hour=self.number(at.hour % 12 or 12),
            next_hour=self.number((at.hour + 1) % 12 or 12),
            hour_of_24=self.number(at.hour),
            minute=self.number(at.minute),
        )

    def weekday(self, at: datetime) -> str:
        """Return the name of a day's weekday."""
        return self.language.weekdays[at.weekday()]

    def month(self, at: datetime) -> str:
        """Return the name of a day's month."""
        return self.language.months[at.month - 1]

    def when(self, at: datetime, now: datetime) -> str:
        """Return a time and its day as one says them at ``now``: half past six tomorrow morning."""
        part = self._part(at)
        night = timedelta(seconds=NIGHT_S)
        away = ((at - night).date() - (now - night).date()).days
        key = {0: "today", 1: "tomorrow"}.get(away, "week" if 1 < away < 7 else "later")
        day = self._day(key, part, weekday=self.weekday(at - night), date=self.date(at - night))
        return f"{self.time(at)} {day}"

    def past(self, at: datetime, now: datetime) -> str:
        """Return a time that is over as one tells it at ``now``: half past six yesterday."""
        away = (now.date() - at.date()).days
        key = {0: "", 1: "yesterday"}.get(away, "earlier")
        return " ".join(filter(None, [self.time(at), key and self._day(key, "", date=self.date(at))]))

    def repeated(self, at: datetime, days: str) -> str:
        """Return a time and the days on which it comes again, ``days`` as cron writes them: noon every weekday."""
        numbers = sorted((int(day) - 1) % 7 for day in days.split(",") if day.isdecimal())
        names = [self.language.weekdays[number] for number in numbers]
        key = {"*": "every_day", "1-5": "every_weekday"}.get(days, "every")
        return f"{self.time(at)} {self._day(key, self._part(at), weekday=self.joined(names) if names else '')}"

    def date(self, at: datetime) -> str:
        """Return a date in words (Saturday, the twenty-first of November)."""
        template = self.language.days["date"]
        return template.format(weekday=self.weekday(at), day=self.ordinal(at.day), month=self.month(at))

    def turned(self, text: str) -> str:
        """Return what somebody said of themselves as it is said to them (take my pills: take your pills)."""
        said = re.compile(rf"(?<!\S)({'|'.join(map(re.escape, self.language.person))})(?!\S)", re.IGNORECASE)
        return said.sub(lambda found: self.language.person[found.group().lower()], text)

    def is_name(self, text: str) -> bool:
        """Say whether a text may be what somebody calls a timer: a few words, no number, and no other sentence."""
        words = text.lower().split()
        usual = not set(words) & self.language.not_in_names and not re.search(r"\d", text)
        return 0 < len(words) <= LONGEST_NAME and usual

    def part_of_day(self, at: datetime) -> str:
        """Return the part of the day that a time belongs to (afternoon)."""
        return self.language.parts[max((hour for hour in self.language.parts if hour <= at.hour), default=0)]

    def _part(self, at: datetime) -> str:
        """Return the part of the day as it stands behind a time; noon is the whole day's."""
        return "" if (at.hour, at.minute) == (12, 0) else self.part_of_day(at)

    def _day(self, key: str, part: str, **values: str) -> str:
        days = self.language.days
        template = days.get(f"{key}_{part}") or days[key if part else f"{key}_whole"]
        return template.format(part=part, **values)
