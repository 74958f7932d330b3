"""What leaves this machine: who sends something says so here first, and is refused where it may not travel so far.

The limit and the receipt belong to the task that runs (context variables): a turn's are its persona's and its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from roomtone.clock import utc_now
from roomtone.core.errors import EgressRefused
from roomtone.core.persona import Egress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """One call that left this machine: to which ``host``, how far that is, how many ``bytes`` of ``kind`` and why.

    ``kind`` is text or audio. ``reach`` is ``lan`` for the house, ``any`` beyond it.
    """

    host: str
    reach: Egress
    bytes: int
    kind: str
    why: str
    at: datetime


Note = Callable[[Sent], None]

_limit: ContextVar[Egress] = ContextVar("egress", default=Egress.ANY)
_note: ContextVar[Note | None] = ContextVar("receipt", default=None)


def reach(host: str | None) -> Egress:
    """Say how far a host is: ``none`` is this machine, ``lan`` the house, ``any`` beyond it. Never waits.

    What cannot be told from the name or the address is beyond the house.
    """
    raise NotImplementedError


def allows(host: str | None) -> bool:
    """Say whether what is said in this task may travel to a host."""
    order = list(Egress)[::-1]  # none, lan, any
    return order.index(reach(host)) <= order.index(_limit.get())


def leaving(host: str | None, size: int, kind: str, why: str) -> None:
    """Note that ``size`` bytes are about to be sent to a host. Raises EgressRefused where they may not be."""
    far = reach(host)
    if not allows(host):
        raise EgressRefused(f"nothing may be sent to {host}: this persona's egress is {_limit.get()}", host=host)
    note = _note.get()
    if host is not None and far is not Egress.NONE and note is not None:
        note(Sent(host, far, size, kind, why, utc_now()))


@contextmanager
def within(limit: Egress, note: Note | None = None) -> Iterator[None]:
    """Let what this task, and those it starts, send go no further than ``limit``; ``note`` is told each time."""
    tokens = _limit.set(limit), _note.set(note)
    try:
        yield
    finally:
        _limit.reset(tokens[0])
        _note.reset(tokens[1])
