"""Who answers: of all the rooms that heard one call, the one that heard it loudest, or whose claim came first.

Nothing is waited for and no clock has to agree with another: a claim says how old its call was when it was sent, so
each room reckons in its own seconds when another heard it, late by what the claim was under way. A room that begins
to answer goes on; one that learns of another's claim stands down. How loud a wake word was tells who stands nearest,
so a clearly louder claim outranks an earlier one; between claims alike the broker's order decides.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

SAME_S = 0.8
"""Two rooms that heard one call disagree by less: engines find the end of a word up to 0.4 s apart, and what is left
is for the way of the claim. Nobody says a wake word twice in that time."""

WORD_S = 1.0
"""So long before a wake word is over, a room that listens already may have heard it begin."""

STEP_DB = 6.0
"""A room hears somebody clearly louder than another does when it stands half as far away: by 6 dB in the open."""

FAR = -1000

KEPT_S = 8.0
"""A claim is remembered for so long: it can only be about a call that somebody still waits to have answered."""


MOST = 200
"""Claims that are remembered at most, should somebody send nothing else."""


class Kind(StrEnum):
    """How somebody called, by rank: the later in this list outranks the earlier, whoever claimed first.

    ``SPEECH``: they spoke where no word is needed. ``ENGAGED``: they spoke to a room that they talk with already.
    ``WAKE``: a wake word. ``INTERRUPTION``: a wake word while the room spoke.
    """

    SPEECH = "speech"
    ENGAGED = "engaged"
    WAKE = "wake"
    INTERRUPTION = "interruption"


RANK = {kind: rank for rank, kind in enumerate(Kind)}


class Standing(Enum):
    """How it stands with a call: claimed, and the claim is under way; answered here; or by another room."""

    CLAIMED = auto()
    WON = auto()
    LOST = auto()


@dataclass(slots=True)
class _Own:
    number: int
    kind: Kind
    at: float
    near: int = 0
    standing: Standing = Standing.CLAIMED
    to: str = ""


@dataclass(frozen=True, slots=True)
class _Other:
    kind: Kind
    at: float
    who: str
    near: int = 0


@dataclass(slots=True)
class Arbiter:
    """Decides for one room. All times are its own loop's seconds; calls have the numbers that the room gave them."""

    _own: deque[_Own] = field(default_factory=lambda: deque(maxlen=MOST))
    _others: deque[_Other] = field(default_factory=lambda: deque(maxlen=MOST))

    def hear(self, number: int, kind: Kind, at: float, *, near: int = 0, serves: bool = True) -> Standing:
        """Take a call that was heard here: ``LOST`` where another room has claimed it, or this one cannot serve.

        ``near`` is ``nearness`` of how loud it was.
        """
        self._forget(at)
        call = _Own(number, kind, at, near, Standing.CLAIMED if serves else Standing.LOST)
        for other in self._others:
            if _same(call, other) and _rank(other) >= _rank(call):
                call.standing, call.to = Standing.LOST, other.who
        self._own.append(call)
        return call.standing

    def win(self, number: int) -> bool:
        """Note that one's own claim came back, or that there is nobody to claim against; say if that decides it."""
        call = self._find(number)
        if call is None or call.standing is not Standing.CLAIMED:
            return False
        call.standing = Standing.WON
        return True

    def lose(self, kind: Kind, at: float, who: str, near: int = 0) -> list[int]:
        """Take the claim of another device, ``who``; return the calls that are lost to it.

        What is won is lost again only to a higher rank: to the room that somebody interrupts, above all, and to one
        that heard them clearly louder.
        """
        self._forget(at)
        other = _Other(kind, at, who, near)
        self._others.append(other)
        lost = [call for call in self._own if _same(call, other) and _loses(call, other)]
        for call in lost:
            call.standing, call.to = Standing.LOST, who
        return [call.number for call in lost]

    def standing(self, number: int) -> Standing | None:
        """Say how it stands with a call; None of one that is long over, or was never heard."""
        call = self._find(number)
        return None if call is None else call.standing

    def lost_to(self, number: int) -> str:
        """Return the device that answers a call instead; "" where none is known to."""
        call = self._find(number)
        return call.to if call is not None else ""

    def _find(self, number: int) -> _Own | None:
        return next((call for call in self._own if call.number == number), None)

    def _forget(self, now: float) -> None:
        for kept in (self._own, self._others):
            while kept and kept[0].at < now - KEPT_S:
                kept.popleft()


def nearness(dbfs: float | None) -> int:
    """Return in steps of ``STEP_DB`` how near somebody is who was heard so loud; of an unknown loudness, far away.

    Steps and not differences, since rooms have to agree on one order however many they are.
    """
    return math.floor(dbfs / STEP_DB) if dbfs is not None else FAR


def _rank(call: _Own | _Other) -> tuple[int, int]:
    return RANK[call.kind], call.near


def _loses(call: _Own, other: _Other) -> bool:
    if call.standing is Standing.LOST:
        return False
    return _rank(other) > _rank(call) or (_rank(other) == _rank(call) and call.standing is Standing.CLAIMED)


def _same(own: _Own, other: _Other) -> bool:
    """Whether two rooms heard the same: a word is over some time after the speech that it is part of began."""
    later = other.at - own.at
    word = RANK[other.kind] >= RANK[Kind.WAKE], RANK[own.kind] >= RANK[Kind.WAKE]
    after = WORD_S if word == (True, False) else 0.0
    before = WORD_S if word == (False, True) else 0.0
    return -SAME_S - before <= later <= SAME_S + after
