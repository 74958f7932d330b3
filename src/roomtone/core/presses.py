"""What a finger does to a button: changes of its line with their times in, gestures out.

A press counts at once and the line is not believed again until it has stopped bouncing: waiting for a steady line
first, as a debouncing driver does, would cost that time of every press.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Gesture(StrEnum):
    """What a finger did. Each ``PRESSED`` is followed by one ``TAPPED`` or ``RELEASED``, a ``LONG`` before it or not.

    ``TWICE`` is the second press of two taps, and nothing follows it.
    """

    PRESSED = "pressed"
    TAPPED = "tapped"
    TWICE = "twice"
    LONG = "long"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take on a button, in seconds.

    ``bounce_s``: after a change, the line says nothing. ``hold_s``: from here on a press is no tap. ``twice_s``: a
    press so soon after a tap is its second. ``long_s``: a long press. ``stuck_s``: nobody holds a button so long.
    """

    bounce_s: float = 0.02
    hold_s: float = 0.4
    twice_s: float = 0.35
    long_s: float = 3.0
    stuck_s: float = 60.0


class Presses:
    """One button. Times are seconds on any one clock, and never go back; ``next_at`` says when to ``tick``.

    ``down`` is how it begins: of a button that is down then, nothing comes until it was let go.
    """

    def __init__(self, timing: Timing | None = None, *, down: bool = False) -> None:
        self._timing = timing or Timing()
        self._line = self._down = down
        self._steady_at = -math.inf
        self._pressed_at = math.inf
        self._tapped_at = -math.inf
        self._counts = self._was_long = False

    @property
    def next_at(self) -> float | None:
        """When time alone brings something about; None while it does not."""
        due = [at for at, _ in self._due()]
        return min(due) if due else None

    def feed(self, down: bool, at: float) -> list[Gesture]:
        """Take a change of the line."""
        found = self.tick(at)
        self._line = down
        return found + (self._settle(at) if at >= self._steady_at else [])

    def tick(self, at: float) -> list[Gesture]:
        """Let time pass."""
        found: list[Gesture] = []
        while due := [each for each in self._due() if each[0] <= at]:
            when, what = min(due, key=lambda each: each[0])
            found += self._pass(when, what)
        return found

    def _due(self) -> list[tuple[float, Gesture | None]]:
        """List what time brings about: None is a line that has stopped bouncing elsewhere than it began to."""
        due: list[tuple[float, Gesture | None]] = []
        if self._line is not self._down:
            due.append((self._steady_at, None))
        if self._counts and not self._was_long:
            due.append((self._pressed_at + self._timing.long_s, Gesture.LONG))
        if self._counts:
            due.append((self._pressed_at + self._timing.stuck_s, Gesture.RELEASED))
        return [each for each in due if each[0] < math.inf]

    def _pass(self, at: float, what: Gesture | None) -> list[Gesture]:
        if what is None:
            return self._settle(at)
        self._was_long = True
        self._counts = what is Gesture.LONG
        return [what]

    def _settle(self, at: float) -> list[Gesture]:
        if self._line is self._down:
            return []
        self._down = self._line
        self._steady_at = at + self._timing.bounce_s
        return self._press(at) if self._down else self._release(at)

    def _press(self, at: float) -> list[Gesture]:
        twice = at - self._tapped_at <= self._timing.twice_s
        self._pressed_at, self._tapped_at = at, -math.inf
        self._counts, self._was_long = not twice, False
        return [Gesture.TWICE if twice else Gesture.PRESSED]

    def _release(self, at: float) -> list[Gesture]:
        if not self._counts:
            return []
        self._counts = False
        if at - self._pressed_at >= self._timing.hold_s:
            return [Gesture.RELEASED]
        self._tapped_at = at
        return [Gesture.TAPPED]
