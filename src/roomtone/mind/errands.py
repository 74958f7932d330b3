"""Errands: what is done for a turn that nobody talks in, as a step of a routine or a task of an agent.

Who is on one has no errands to give, and nobody there to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from roomtone.core.persona import Persona
from roomtone.engines.tools import Tool
from roomtone.mind.tools.plan import errands

_errand: ContextVar[bool] = ContextVar("errand", default=False)


@contextmanager
def on_an_errand() -> Iterator[None]:
    """Mark what is done in this task, and in those begun within, as done for a turn."""
    token = _errand.set(True)
    try:
        yield
    finally:
        _errand.reset(token)


class Abilities:
    """The tools of a household beside Roomtone's own: those of its ``servers``, and errands where they are of use.

    ``agents`` returns who does tasks for others, and is set once somebody does.
    """

    def __init__(self, servers: Callable[[], Sequence[Tool]]) -> None:
        self.agents: Callable[[], Sequence[Persona]] = tuple
        self._servers = servers

    def tools(self) -> list[Tool]:
        """List them as they are now, and for who asks now."""
        servers, agents = list(self._servers()), self.agents()
        if _errand.get() or not (servers or agents):
            return servers
        return [*servers, *errands(agents)]
