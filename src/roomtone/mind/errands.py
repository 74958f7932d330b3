"""Errands: what is done for a turn that nobody talks in, as a step of a routine or a task of an agent.

Who is on one has no errands to give, and nobody there to ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_errand: ContextVar[bool] = ContextVar("errand", default=False)


@contextmanager
def on_an_errand() -> Iterator[None]:
    """Mark what is done in this task, and in those begun within, as done for a turn."""
    token = _errand.set(True)
    try:
        yield
    finally:
        _errand.reset(token)


def is_errand() -> bool:
    """Say whether this task is on an errand."""
    return _errand.get()
