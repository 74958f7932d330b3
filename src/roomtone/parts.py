"""What a room is made of, and how it behaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from roomtone.clock_trust import ClockTrust
from roomtone.core.signals import Signal
from roomtone.ears import Ears
from roomtone.failover import SttLine
from roomtone.flow import Feed, Inbox
from roomtone.mind.house import House
from roomtone.mind.phrases import Phrases
from roomtone.minds import Minds
from roomtone.mouth import Mouth
from roomtone.personas.cast import Cast
from roomtone.quiet import Quiet
from roomtone.store import Store
from roomtone.timers import Timers
from roomtone.turn.carrying import Carrier


@dataclass(frozen=True)
class Manners:
    """How a room behaves. All times are seconds.

    ``open``: whoever speaks is heard; else only who called. ``follow_up_s`` and ``called_s``: how long it listens
    after an answer, and after a call. ``one_session``: all that is said is one session of its own, as in a rehearsal;
    else one goes on until its persona's retention has passed in silence. ``chooses``: a request may choose who
    answers it.
    """

    open: bool = True
    follow_up_s: float = 6.0
    called_s: float = 8.0
    one_session: bool = False
    chooses: bool = False


async def at_once(call: int) -> bool:  # noqa: ARG001  # nobody else is there to answer it
    """Answer every call."""
    return True


@dataclass(slots=True)
class Housed:
    """The house that a room is part of: itself alone, until it has joined one; ``carrier`` takes messages there.

    ``health`` tells of the room's link to it. ``answers`` says whether it is this room that answers the call with a
    number (see ``effects.Called``); it may wait a moment to know.
    """

    house: House
    carrier: Carrier | None = None
    health: Callable[[], str] | None = None
    answers: Callable[[int], Awaitable[bool]] = at_once


@dataclass(frozen=True, slots=True)
class Parts:
    """What a conversation is made of."""

    ears: Ears
    stt: SttLine
    cast: Cast
    phrases: Phrases
    mouth: Mouth
    timers: Timers
    clock: ClockTrust
    quiet: Quiet
    minds: Minds
    store: Store
    feed: Feed
    inbox: Inbox[Signal]
    room: str
    language: str
    time_zone: ZoneInfo
    housed: Housed
