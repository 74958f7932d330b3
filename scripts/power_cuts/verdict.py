"""What must be true after a power cut, held against what the room had acknowledged before it: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from power_cuts.disk import Cut

Line = dict[str, Any]
"""One line that the virtual machine wrote: ``kind``, ``now`` (ISO 8601), ``up`` (seconds since start), and more."""

MISSED = re.compile(r"(?:while I was off|I was off for)", re.IGNORECASE)
CUT_OFF = re.compile(r"I was cut off", re.IGNORECASE)


HEADING = "ready_s missed kept/lost/torn  amid                     then"


@dataclass(slots=True)
class Life:
    """What one start of the machine came to, up to the cut that ended it.

    ``ready_s``: seconds from its start until the daemon was ready; ``missed``: timers that had come due meanwhile;
    ``amid``: what went on at the cut; ``wrong``: what should not be.
    """

    ready_s: float = 0.0
    missed: int = 0
    amid: str = ""
    cut: Cut | None = None
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return it as a line under ``HEADING``."""
        cut = f"{self.cut.kept}/{self.cut.lost}/{self.cut.torn}" if self.cut else "-"
        return f"{self.ready_s:7.1f} {self.missed:6} {cut:>14}  {self.amid:24} {'; '.join(self.wrong) or 'ok'}"


@dataclass(slots=True)
class Promises:
    """What the room has acknowledged in its life so far, and not been asked to take back.

    ``timers`` and ``items`` by name; ``turns``: what was heard and said, by trace; ``told``: names that rang aloud.
    ``open``: what it was asked last, where no answer had come yet: both outcomes are right.
    """

    timers: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    turns: dict[str, tuple[str, str]] = field(default_factory=dict)
    open: Line | None = None

    def take(self, line: Line) -> None:
        """Take note of a line."""
        if line["kind"] == "asked":
            self.open = line
        elif line["kind"] == "answered":
            self.open = None
            self._answered(line)
        elif line["kind"] == "stopped":
            self._rang(line["said"])
        elif line["kind"] == "settled":
            self._rang(turn["said"] for turn in line["turns"])

    def _answered(self, line: Line) -> None:
        if line["error"] is not None:
            return
        self.turns[line["trace"]] = (line["heard"], line["said"])
        if line["intent"] in ("timer.set", "reminder.set"):
            self.timers.add(line["name"])
        elif line["intent"] == "timer.cancel":
            self.timers.discard(line["name"])
        elif line["intent"] == "lists.add":
            self.items.add(line["name"])

    def _rang(self, texts: Iterable[str]) -> None:
        told = " ".join(texts)
        self.timers = {name for name in self.timers if name not in told}

    def unsure(self, name: str) -> bool:
        """Whether the power went before the room had answered about something of that name."""
        return self.open is not None and self.open["name"] == name


def lost(promises: Promises, found: Line) -> list[str]:
    """Return what is wrong with what a cut left on the disk: damage, and what was promised and is not there."""
    wrong = [f"set aside: {name}" for name in found["files"] if ".corrupt-" in name]
    if "integrity" not in found:
        return [*wrong, "there is no database"] if promises.turns else wrong
    if found["integrity"] != "ok":
        wrong.append(f"database: {found['integrity']}")
    there = {timer["name"] for timer in found["timers"]}
    rang = " ".join(turn["said"] for turn in found["turns"] if turn["source"] == "schedule")
    wrong += [
        f"timer lost: {name}"
        for name in sorted(promises.timers - there)
        if not promises.unsure(name) and name not in rang
    ]
    wrong += [f"item lost: {name}" for name in sorted(promises.items - set(found["items"]))]
    kept = {turn["trace"]: (turn["heard"], turn["said"]) for turn in found["turns"]}
    wrong += [f"turn lost: {heard!r}" for trace, (heard, said) in promises.turns.items() if trace not in kept]
    return wrong + [
        f"turn changed: {kept[trace]} was {turn}"
        for trace, turn in promises.turns.items()
        if trace in kept and kept[trace] != turn
    ]


def overdue(found: Line) -> list[str]:
    """Return the names of what came due while the power was off and nobody has been told of."""
    return [
        timer["name"]
        for timer in found.get("timers", ())
        if not timer["missed"]
        and timer["paused_s"] is None
        and datetime.fromisoformat(timer["due"]) < datetime.fromisoformat(found["now"])
    ]


def untold(promises: Promises, found: Line, settled: Line, health: Line) -> list[str]:
    """Return what is wrong with what the room said by itself after its start: what was missed, in one sentence."""
    wrong = [f"health of {part}: {state}" for part, state in health["health"].items() if state != "ok"]
    said: Sequence[str] = [turn["said"] for turn in settled["turns"] if turn["spoken"] or not turn["closed"]]
    missed = overdue(found)
    sentences = [text for text in said if MISSED.search(text)]
    if len(sentences) != bool(missed):
        wrong.append(f"{len(sentences)} sentences about {missed}: {sentences}")
    wrong += [f"not told: {name}" for name in missed if name not in " ".join(sentences)]
    cuts = [text for text in said if CUT_OFF.search(text)]
    if len(cuts) > 1:
        wrong.append(f"{len(cuts)} sentences about being cut off: {cuts}")
    if cuts and promises.open is None:
        wrong.append(f"cut off, with nothing under way: {cuts}")
    return wrong


def doing(lines: Sequence[Line]) -> str:
    """Say what went on when the power was cut."""
    if not lines:
        return "starting"
    last = lines[-1]
    if last["kind"] == "asked":
        return f"answering ({last['what']})"
    return {"found": "starting", "ready": "telling", "stopped": "ringing"}.get(last["kind"], "idle")


def summary(lives: Sequence[Life], promises: Promises, seed: int) -> str:
    """Say in a line what all came to: each cut was followed by a start, but for the last."""
    cuts, ready = len(lives) - 1, sorted(life.ready_s for life in lives[1:] if life.ready_s)
    wrong = sum(1 for life in lives if life.wrong)
    unflushed = [life.cut for life in lives if life.cut is not None]
    missed, writes = sum(life.missed for life in lives), sum(cut.kept + cut.lost + cut.torn for cut in unflushed)
    spoiled = sum(cut.lost + cut.torn for cut in unflushed)
    up = (
        f"ready {ready[len(ready) // 2]:.0f} s after power (median), {ready[-1]:.0f} s at most"
        if ready
        else "never up"
    )
    return (
        f"{cuts} power cuts (seed {seed}), {wrong} with anything wrong; {len(promises.turns)} answers given, "
        f"{missed} timers due while off; {spoiled} of {writes} unflushed writes spoiled; {up}"
    )
