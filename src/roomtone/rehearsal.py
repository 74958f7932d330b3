"""A room without hardware, for ``converse``, ``demo`` and the bench: people's voices go in, finished turns come out.

It is the daemon's own pipeline on a sound device of ours; on a virtual clock it runs as fast as its engines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.app import Room, open_room
from roomtone.core.dialog import Turn
from roomtone.core.machine import Mode
from roomtone.core.sound import RATE, Audio
from roomtone.engines import EngineSettings
from roomtone.flow import Event, Watcher
from roomtone.settings import Settings

SETTLED_S = 0.5
"""Quiet after which a conversation has come to rest: nobody speaks, nothing is being answered."""


@dataclass(slots=True)
class Rehearsal:
    """A running room and its device. ``turns`` are those that have ended, in order."""

    room: Room
    device: Any
    turns: list[Turn] = field(default_factory=list)
    replies: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def at_rest(self, events: Watcher) -> list[Turn]:
        """Wait until nobody speaks and nothing is being answered; return the turns that ended meanwhile."""
        before = len(self.turns)
        while True:
            try:
                async with asyncio.timeout(SETTLED_S):
                    self.note(await anext(events))
            except TimeoutError:
                if self._quiet():
                    return self.turns[before:]

    def note(self, event: Event) -> None:
        """Remember what an event says about turns."""
        if event.kind == "turn.ended":
            self.turns.append(event.data.turn)

    def _quiet(self) -> bool:
        state = self.room.conversation.state
        resting = state.mode is Mode.IDLE or (state.mode is Mode.LISTENING and state.turn is None)
        return resting and not state.parked and not self.device.visitors.waiting


@contextlib.asynccontextmanager
async def rehearsing(
    settings: Settings, state_dir: Path, audio: tuple[str, EngineSettings]
) -> AsyncIterator[Rehearsal]:
    """Open a room on a ``wav`` or ``sim`` device, given by name and settings."""
    async with (
        engines.open_engine("audio", *audio) as device,
        open_room(settings, state_dir, device=device) as room,
    ):
        yield Rehearsal(room, device)


def stretch(recording: Audio, start_s: float, end_s: float) -> Audio:
    """Return what was recorded between two times since the recording began."""
    return recording.cut(max(0, round(start_s * RATE)), max(0, round(end_s * RATE)))
