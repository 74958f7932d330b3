"""The numbers Roomtone is held to, measured: ``roomtone bench`` prints them, one file a subject."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. ``goal`` is a bound in words (``<= 150``); ``n`` is how many samples stand behind it."""

    name: str
    value: float | None
    unit: str
    goal: str
    n: int
