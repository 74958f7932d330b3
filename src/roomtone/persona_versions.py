"""Which personas were ever active, by what was in their folders, and who spoke since when and why."""

from __future__ import annotations

from dataclasses import dataclass

from roomtone.clock import utc_now
from roomtone.core.dialog import Source
from roomtone.core.persona import Persona
from roomtone.personas import Library
from roomtone.store import Store, keeping

IN_USE = "persona"
"""The key under which the store keeps who speaks, with the room: ``persona/<room>`` would be somebody's notebook."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch as it is recorded: in which room, from whom to whom, what asked for it, and milliseconds it took."""

    room: str
    earlier: str
    persona: Persona
    source: Source
    cause: str
    took_ms: float


async def keep_switch(store: Store, library: Library, switch: Switch) -> None:  # noqa: ARG001
    """Keep a switch, and who speaks from now on, in one commit that has reached the disk. Raises StoreError."""
    persona = switch.persona
    row = (utc_now().isoformat(), switch.room, switch.earlier, persona.id, persona.content)
    insert = "INSERT INTO persona_switches (at, room, earlier, persona, content, source, cause, took_ms)"
    await store.write(
        keeping(IN_USE, persona.id),
        (f"{insert} VALUES (?,?,?,?,?,?,?,?)", (*row, switch.source, switch.cause, switch.took_ms)),
        durable=True,
    )


async def in_use(store: Store) -> str | None:
    """Return who spoke last, None where nobody was ever switched to. Raises StoreError."""
    kept = await store.kept(IN_USE)
    return kept if isinstance(kept, str) else None
