"""From what was heard to what is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from roomtone.core.dialog import HandStopwatch, Item, Offer, Timer, Tokens, Turn
from roomtone.core.persona import Persona
from roomtone.core.routine import Routine
from roomtone.mind.context import Past, Told
from roomtone.mind.house import House, Neighbour
from roomtone.mind.memory import Memory
from roomtone.outbound import Sent


class Household(Protocol):
    """What a skill may know and do. Every change has reached the disk when its call returns."""

    @property
    def persona(self) -> Persona:
        """Who the room speaks as."""

    @property
    def house(self) -> House:
        """The other rooms."""

    def now(self) -> datetime:
        """Return the present in the household's time zone."""

    def volume(self) -> float:
        """Return loudness, 0 to 1."""

    async def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""

    async def hand_off(self, to: Neighbour) -> None:
        """Let this conversation go on in another room, with what this turn cut short (``House.hand_off``)."""

    def cut_short(self) -> str:
        """Return what is left of the answer that this turn cut short, "" where it cut none."""

    def is_quiet(self) -> bool:
        """Say whether what nobody asked for waits: in quiet hours, or while somebody wants not to be disturbed."""

    async def keep_quiet(self, seconds: int) -> None:
        """Let nobody be disturbed for a while; 0 ends it, but no quiet hours."""

    async def timers(self) -> list[Timer]:
        """List what is still to ring, the next first: timers, alarms and reminders."""

    async def save_timers(self, timers: list[Timer]) -> None:
        """Keep what is to ring, new or changed."""

    async def cancel_timers(self, timers: list[Timer]) -> None:
        """Cancel timers."""

    def rang(self) -> list[Timer]:
        """List what rings now, or did until a moment ago."""

    async def snooze(self, seconds: int) -> list[Timer]:
        """Let what rings, or has just rung, ring again after some seconds; return it, none where nothing did."""

    def clock_is_right(self) -> bool:
        """Say whether the clock may be believed."""

    async def stopwatch(self) -> HandStopwatch:
        """Return the household's stopwatch."""

    async def save_stopwatch(self, stopwatch: HandStopwatch) -> None:
        """Keep the stopwatch as it is now."""

    async def items(self) -> list[Item]:
        """List what is on all lists, in the order it was added, and of each list what was removed last."""

    async def save_items(self, items: list[Item]) -> None:
        """Keep items, new or changed."""

    async def times_asked(self, intent: str) -> int:
        """Return how often an intent was asked for before, of this persona."""

    async def personas(self) -> list[Persona]:
        """List whom the room can speak as: those that can be loaded."""

    async def become(self, persona: str) -> Persona:
        """Speak as another persona from here on, this answer included. Raises PersonaError."""

    async def remember(self, key: str, value: Any) -> None:
        """Keep a value (JSON; None forgets it) in the present persona's own notebook, which no other can read."""

    async def remembered(self, key: str) -> Any:
        """Return what the present persona keeps under a key, None where it keeps nothing."""

    def acts(self) -> None:
        """Note that something is about to be done that cannot be unsaid."""

    @property
    def memory(self) -> Memory:
        """What is known beyond this conversation."""

    async def past(self) -> Past:
        """Return what was said in this conversation before this turn."""

    async def sent_out(self, since: datetime) -> list[Sent]:
        """List what has left this machine since a moment, the oldest first."""

    async def undo(self) -> str | None:
        """Take back what a tool did last; return what to say of it, None where there is nothing to take back."""

    async def routines(self) -> list[str]:
        """List the routines that can be started, by name."""

    async def run_routine(self, name: str) -> Answer:
        """Begin to run a routine; its words come as the answer's deltas. Raises ToolError where there is none."""

    def tools(self) -> Collection[str]:
        """List the tools that the present persona may use, by name."""

    def agents(self) -> Sequence[Persona]:
        """List who does tasks for the present persona."""

    async def run_steps(self, routine: Routine) -> str:
        """Run a routine of the moment, unsaid, and return what its steps came to, a line each."""

    async def last_turn(self) -> Turn | None:
        """Return the last finished turn of this session in which something was heard, or None."""

    async def last_answer(self, skill: str) -> Turn | None:
        """Return the last finished turn in which the present persona answered by a skill, in whatever session."""

    async def forget(self, since: datetime) -> int:
        """Erase what was said since a moment, in every session but for this turn; return how many turns."""


@dataclass(slots=True)
class Answer:
    """How a turn is answered. What is known of it grows while it is told: only ``deltas`` is consumed.

    ``deltas`` is the text as it comes. ``dismisses`` says that the person wants silence: where the turn cut a
    reply short, being quiet is the answer and the deltas go unspoken. ``opens``: it was a greeting; said into a reply
    it means "listen to me", and is answered by being quiet too. ``offers`` is what a yes to its last question
    asks for. ``recalled`` are the ids of the facts a model was told, ``told`` what its prompt is to tell
    again, ``tokens`` what it took, ``saved_s`` the seconds by which it was begun early. ``follows`` are the
    messages that its words were made of, as they come, by the step of a routine. ``by`` is who gives it, where
    that is somebody else than who speaks.
    """

    answered_by: str
    deltas: AsyncIterator[str]
    intent: str | None = None
    dismisses: bool = False
    opens: bool = False
    offers: Offer | None = None
    recalled: tuple[str, ...] = ()
    told: Told | None = None
    saved_s: float | None = None
    follows: Mapping[str, str] = field(default_factory=dict)
    by: Persona | None = None
    tokens: Tokens | None = None
