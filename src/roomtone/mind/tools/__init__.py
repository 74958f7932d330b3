"""The tools that Roomtone brings itself: a file is a family, or some that belong together.

Families have the names of the skills that do the same, so that one word in a persona's ``tools`` allows both.
"""

from __future__ import annotations

from roomtone.mind.tools import arithmetic, clock, lists, memory, persona, rooms, timer, volume
from roomtone.mind.tools.allowed import allowed
from roomtone.mind.tools.built_in import BuiltIn
from roomtone.mind.tools.plan import ASK, PLAN

__all__ = ["BUILT_IN", "FAMILIES", "TAKING_BACK", "BuiltIn", "allowed"]

BUILT_IN: tuple[BuiltIn, ...] = (
    *clock.TOOLS,
    *timer.TOOLS,
    *volume.TOOLS,
    *lists.TOOLS,
    *memory.TOOLS,
    *persona.TOOLS,
    *arithmetic.TOOLS,
    *rooms.TOOLS,
)

TAKING_BACK: tuple[BuiltIn, ...] = (*timer.TAKING_BACK, *memory.TAKING_BACK)
"""What only ever undoes another tool's work: no model can call it."""

FAMILIES = frozenset(name.partition(".")[0] for name in (*(tool.spec.name for tool in BUILT_IN), PLAN, ASK))
