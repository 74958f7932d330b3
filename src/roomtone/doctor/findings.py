"""What the doctor says: one line of a part, how grave it is, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from roomtone.mind.phrases import Phrases

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part. ``fail``: the daemon cannot work so. ``mend`` is a command, or says what to do."""

    subject: str
    level: Level
    said: str
    mend: str | None = None


def split(subject: str, level: Level, line: str) -> Finding:
    """Take a line that says what is wrong and then, after a semicolon, what mends it apart."""
    said, _, mend = line.partition("; ")
    return Finding(subject, level, said, mend or None)


GRAVITY: tuple[Level, ...] = ("fail", "warn", "ok")

SPOKEN = 3
"""Findings that are said aloud: more at a time nobody keeps in mind."""


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Put findings in the order of their gravity, those of one gravity as they came."""
    return sorted(found, key=lambda finding: GRAVITY.index(finding.level))


def summary(found: Sequence[Finding], language: str) -> str:
    """Say what is wrong as somebody would aloud: how much, and the worst of it."""
    phrases = Phrases.load(language)
    wrong = [finding for finding in worst_first(found) if finding.level != "ok"]
    if not wrong:
        return phrases.say("doctor_well")
    count = phrases.say("doctor_one" if len(wrong) == 1 else "doctor_several", count=phrases.number(len(wrong)))
    told = [phrases.say("doctor_finding", subject=each.subject, what=each.said) for each in wrong[:SPOKEN]]
    more = len(wrong) - SPOKEN
    return " ".join([count, *told, *([phrases.say("doctor_more", count=phrases.number(more))] if more > 0 else [])])
