"""The numbers Roomtone is held to, measured: ``roomtone bench`` prints them, one file a subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. ``goal`` is a bound in words (``<= 150``); ``n`` is how many samples stand behind it."""

    name: str
    value: float | None
    unit: str
    goal: str
    n: int


def p(percent: float, samples: Sequence[float]) -> float | None:
    """Return a percentile, rounded to a tenth; None of no samples."""
    return round(float(np.percentile(samples, percent)), 1) if len(samples) else None
