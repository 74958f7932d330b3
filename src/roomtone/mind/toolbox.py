"""The tools of a household: which a persona may use, and one run of one, checked, bounded and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pydantic import Field

from roomtone.core.dialog import Noun, Offer, new_id, now
from roomtone.core.persona import Persona
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import ToolCall
from roomtone.engines.tools import Tool
from roomtone.mind import Household


class RunStatus(StrEnum):
    """What became of a call: done, failed, not allowed, over its time, or waiting for the person's yes."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    LATE = "late"
    ASKED = "asked"
    UNDONE = "undone"


class ToolRun(Noun):
    """One call of a tool, as its row keeps it. ``arguments`` are as they were written; ``undo`` takes it back."""

    id: str = Field(default_factory=new_id)
    at: Any = Field(default_factory=now)
    trace: str = ""
    session: str = ""
    persona: str = ""
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    status: RunStatus
    result: str = ""
    error: str = ""
    took_ms: float = 0.0
    undo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model is told of its call; ``offer``: what the person must say yes to first, ``question`` asks them."""

    run: ToolRun
    text: str
    offer: Offer | None = None
    question: str = ""
    outside: bool = False


class Journal(Protocol):
    """Where runs are written down."""

    async def wrote(self, run: ToolRun) -> None:
        """Keep a run, new or changed."""

    async def last_undoable(self, persona: str) -> ToolRun | None:
        """Return the last run of a persona's that can be taken back and was not, of the last minutes."""


class Toolbox:
    """All tools there are; those of servers come and go."""

    def __init__(
        self, tools: Callable[[], Sequence[Tool]], journal: Journal, on_run: Callable[[ToolRun], None]
    ) -> None:
        self._tools = tools
        self._journal = journal
        self._on_run = on_run

    def specs(self, persona: Persona) -> tuple[ToolSpec, ...]:
        """List what a persona may use, in an order that stays the same from turn to turn."""
        raise NotImplementedError

    async def run(self, call: ToolCall, house: Household, *, agreed: bool = False, tainted: bool = False) -> Outcome:
        """Do what a model asks for. Never raises but for cancellation: what went wrong is told to the model.

        ``agreed``: the person has said yes to this. ``tainted``: the model has read what strangers wrote in this
        turn, so whatever changes anything needs a yes too.
        """
        raise NotImplementedError

    async def undo(self, house: Household) -> Outcome | None:
        """Take back what was done last, as far as it can be; None where there is nothing."""
        raise NotImplementedError
