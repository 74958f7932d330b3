"""What the doctor says: one line of a part, how grave it is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
