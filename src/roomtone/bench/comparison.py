"""What changed since an earlier run: figures of now beside those that a file of ``roomtone bench --json`` holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from roomtone.bench import Figure
from roomtone.core.errors import UsageError

NOISE = {
    "ms": (0.15, 1.0),
    "us": (0.25, 20.0),
    "CPU s/s": (0.15, 0.001),
    "s/s": (0.15, 0.005),
    "MB": (0.05, 3.0),
    "kB": (0.10, 1.0),
    "%": (0.0, 0.0),
}
"""By unit: the share, and the least amount, by which two runs of one program differ on a shared machine."""

OTHER_NOISE = (0.10, 0.0)


class Change(StrEnum):
    """What became of a figure."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    """It changed by no more than two runs differ anyway, or nothing says which way is good."""

    NEW = "new"
    """The earlier run did not have it."""


def earlier(path: Path) -> dict[str, Figure]:
    """Read an earlier run's figures, by name.

    Raises UsageError, in one line, for a file that is not there or is none of ``roomtone bench --json``.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{path} cannot be read ({reason}); make one: roomtone bench --json > {path}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            figure = _figure(line, f"{path}, line {number}")
            found[figure.name] = figure
    if not found:
        raise UsageError(f"{path} holds no figures; make one: roomtone bench --json > {path}")
    return found


def _figure(line: str, where: str) -> Figure:
    try:
        fields = json.loads(line)
        figure = Figure(*(fields[key] for key in ("name", "value", "unit", "goal", "n")))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{where} is no figure; give a file that roomtone bench --json printed") from None
    is_number = figure.value is None or (isinstance(figure.value, int | float) and figure.value == figure.value)
    texts = (figure.name, figure.unit, figure.goal)
    if not is_number or isinstance(figure.value, bool) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where} is no figure; give a file that roomtone bench --json printed")
    return figure


def change(now: Figure, before: Mapping[str, Figure]) -> Change:
    """Say what became of a figure, noise left aside. A value that was not to be had counts as the worst."""
    old = before.get(now.name)
    if old is None:
        return Change.NEW
    if now.value is None or old.value is None:
        if now.value is old.value:
            return Change.SAME
        return Change.WORSE if now.value is None else Change.BETTER
    moved = now.value - old.value
    less_is_good = _less_is_good(now.goal)
    if less_is_good is None or abs(moved) <= noise(now, old):
        return Change.SAME
    return Change.BETTER if (moved < 0) is less_is_good else Change.WORSE


def noise(now: Figure, before: Figure) -> float:
    """Return by how much two runs' figures differ by chance, in the figure's unit."""
    assert now.value is not None
    assert before.value is not None
    if now.unit == "%":
        return _standard_error(before.value, min(now.n, before.n))
    share, least = NOISE.get(now.unit, OTHER_NOISE)
    return max(least, share * abs(before.value))


def _standard_error(percent: float, n: int) -> float:
    """Return one standard error of a share of n samples, at least one sample's worth, in percent."""
    p = min(0.99, max(0.01, percent / 100))
    return 100 * max(math.sqrt(p * (1 - p) / max(n, 1)), 1 / max(n, 1))


def _less_is_good(goal: str) -> bool | None:
    """Read a goal such as ``<= 150``, ``aim <= 90`` or ``>= 80``; a figure without one only informs."""
    found = re.search(r"[<>]=?", goal)
    return found.group().startswith("<") if found else None
