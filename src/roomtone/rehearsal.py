"""A room without hardware, for ``converse``, ``demo`` and the bench: people's voices go in, finished turns come out.

It is the daemon's own pipeline on a sound device of ours; on a virtual clock it runs as fast as its engines.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.app import Room, open_room
from roomtone.control import state_lock
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import AudioError
from roomtone.core.machine import Mode
from roomtone.core.sound import RATE, Audio, encode_wav
from roomtone.engines import EngineSettings
from roomtone.flow import Event, Watcher, beside
from roomtone.settings import Settings

SETTLED_S = 0.5
"""Quiet after which a conversation has come to rest: nobody speaks, nothing is being answered."""


@dataclass(slots=True)
class Rehearsal:
    """A running room on a ``device`` that takes visitors. ``turns`` are those that have ended, in order.

    With ``out`` every reply is written there, and on leaving ``rehearsing`` the conversation and its turns too.
    """

    room: Room
    device: Any
    out: Path | None
    turns: list[Turn] = field(default_factory=list)
    show: Callable[[Event], None] = lambda _: None
    _returned: int = 0
    _seen: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    _first_sounds: dict[str, float] = field(default_factory=dict)

    async def at_rest(self) -> list[Turn]:
        """Wait until nobody speaks and nothing is being answered; return the turns that ended since the last time."""
        while True:
            try:
                async with asyncio.timeout(SETTLED_S):
                    await self.next_event()
            except TimeoutError:
                if self._quiet():
                    fresh, self._returned = self.turns[self._returned :], len(self.turns)
                    return fresh

    async def next_event(self) -> Event:
        """Wait for the next event that was not waited for yet, and return it."""
        return await self._seen.get()

    async def follow(self, events: Watcher) -> None:
        """Note and show events as they happen."""
        async for event in events:
            if event.kind == "turn.first_sound":
                self._first_sounds[event.trace or ""] = asyncio.get_running_loop().time()
            if event.kind == "turn.ended":
                self.turns.append(self._with_reply(event.data.turn))
            self.show(event)
            self._seen.put_nowait(event)

    def first_sound_at(self, turn: Turn) -> float:
        """Return the loop's time at which a turn's first sound was handed to the loudspeaker."""
        return self._first_sounds[turn.trace]

    def nothing_heard(self) -> Turn:
        """Return the turn of somebody in whose sound there was no speech; it belongs to no session."""
        persona, room = self.room.conversation.speaker.persona.id, self.room.settings.device.room
        session = self.room.conversation.recorder.session
        known = session.id if session else ""
        return Turn(turn=0, trace="", session=known, room=room, persona=persona, source=Source.VOICE)

    def _quiet(self) -> bool:
        state = self.room.conversation.state
        resting = state.mode is Mode.IDLE or (state.mode is Mode.LISTENING and state.turn is None)
        return resting and not state.parked and not self.device.visitors.waiting

    def _with_reply(self, turn: Turn) -> Turn:
        if self.out is None or turn.trace not in self._first_sounds:
            return turn
        path = self.out / f"turn-{len(self.turns) + 1:02}.wav"
        start = self._first_sounds[turn.trace] - self.device.time_of(0)  # the device was open before all else
        write(path, encode_wav(self.device.played.cut(round(start * RATE))))
        return turn.model_copy(update={"reply_wav": str(path)})


@asynccontextmanager
async def rehearsing(
    settings: Settings,
    state_dir: Path,
    audio: tuple[str, EngineSettings],
    out: Path | None = None,
    *,
    rings: bool = True,
    one_session: bool = True,
) -> AsyncIterator[Rehearsal]:
    """Open a room on a ``wav`` or ``sim`` device, given by name and settings.

    All that is said to one persona is one session of its own; without ``one_session`` it is as in the daemon, and
    goes on with what was said before. ``rings`` False leaves the timers of ``state_dir`` alone: on a virtual clock an
    hour is over in a second.
    """
    async with (
        engines.open_engine("audio", *audio) as device,
        open_room(settings, state_dir, device=device, rings=rings, one_session=one_session) as room,
    ):
        with room.feed.watch() as events:
            rehearsal = Rehearsal(room, device, out)
            async with beside(rehearsal.follow(events), "following events"):
                yield rehearsal
            if out is not None:
                write_out(out, rehearsal.device.recording, rehearsal.turns)


@asynccontextmanager
async def state_for(named: Path | None) -> AsyncIterator[Path]:
    """Give the state folder that was named, locked, else one that lasts as long as the context.

    Raises StateBusy where a daemon has the named one.
    """
    if named is not None:
        async with state_lock(named):
            yield named
        return
    with tempfile.TemporaryDirectory(prefix="roomtone-") as folder:
        yield Path(folder)


def prepare(out: Path | None) -> None:
    """Make the folder for what is written. Raises AudioError where it cannot be made."""
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"{out} cannot be made: {error.strerror}; choose another --out") from error


def write_out(out: Path, recording: Audio, turns: list[Turn]) -> None:
    """Write a conversation as one WAV and its turns as JSON lines."""
    write(out / "conversation.wav", encode_wav(recording))
    lines = [json.dumps(turn.model_dump(mode="json"), ensure_ascii=False) + "\n" for turn in turns]
    write(out / "turns.jsonl", "".join(lines).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file whole. Raises AudioError with one line where that fails."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise AudioError(f"{path} cannot be written: {error.strerror}; choose another --out") from error
