"""What a room thinks with: language models, memory, tools and routines, opened together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from roomtone.ledger import Ledger
from roomtone.mind.context import Past
from roomtone.mind.memory import Memory
from roomtone.mind.toolbox import Toolbox
from roomtone.receipt import Receipts


@dataclass(frozen=True, slots=True)
class Minds:
    """What all personas of a room think with."""

    memory: Memory
    tools: Toolbox
    ledger: Ledger
    receipts: Receipts
    past: Callable[[tuple[str, ...]], Awaitable[Past]]
    anticipates: bool = True
