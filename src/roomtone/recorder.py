"""Keeps what is said: the session, the rows of its turns, and the graph of its messages.

A turn's row is written when it may answer, again as its sentences are heard, and closed when it has ended, so that a
power cut leaves what was said until then. Writing never makes the conversation wait, and never ends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from roomtone.core.dialog import Message, Persona, Role, Session, Turn
from roomtone.core.errors import RoomtoneError
from roomtone.flow import Feed
from roomtone.store import Store
from roomtone.turn import LiveTurn

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class Recorder:
    """Writes through ``spawn``, which runs a coroutine beside the conversation. ``health`` is ``ok`` or the trouble.

    What is said more than ``session_gap_s`` seconds after the last turn belongs to another session.
    """

    def __init__(
        self, store: Store, feed: Feed, room: str, persona: Persona, session_gap_s: float, spawn: Spawn
    ) -> None:
        self.health = "ok"
        self.session: Session | None = None
        self.last_message: str | None = None
        self._store = store
        self._feed = feed
        self._room = room
        self._persona = persona
        self._session_gap_s = session_gap_s
        self._spawn = spawn
        self._turns = 0
        self._last_at = 0.0

    def begin(self, live: LiveTurn, heard: int) -> None:
        """Number a turn within its session and write its row; ``heard`` samples have left the loudspeaker."""
        live.session = self._current_session()
        self._turns += 1
        live.in_session = self._turns
        self.keep(live, heard)

    def keep(self, live: LiveTurn, heard: int) -> None:
        """Write a turn's row as far as it is."""
        if live.session is not None:
            self.write(self._store.save_turn(live.record(heard), closed=False))

    def close(self, live: LiveTurn, heard: int) -> Turn:
        """Write a turn's row for the last time, with its messages; return the turn."""
        turn = live.record(heard)
        self._last_at = asyncio.get_running_loop().time()
        self.write(self._store.save_turn(turn, closed=True, messages=self._messages(turn)))
        return turn

    def forget(self, live: LiveTurn) -> None:
        """Take the row of a turn back that was heard as part of another."""
        if live.session is None:
            return
        if live.in_session == self._turns:
            self._turns -= 1
        self.write(self._store.drop_turn(live.session.id, live.in_session))
        live.session = None

    def _current_session(self) -> Session:
        now = asyncio.get_running_loop().time()
        if self.session is None or now - self._last_at > self._session_gap_s:
            self.session = Session(room=self._room, persona=self._persona.id)
            self.last_message = None
            self._turns = 0
            self._last_at = now
            self.write(self._store.begin_session(self.session))
        return self.session

    def _messages(self, turn: Turn) -> list[tuple[Message, list[str]]]:
        """Return what was said in a turn as nodes of the graph, each behind the one before it."""
        messages: list[tuple[Message, list[str]]] = []
        for role, text in ((Role.PERSON, turn.heard), (Role.ROOMTONE, turn.spoken)):
            if text:
                parents = [self.last_message] if self.last_message else []
                message = Message(session=turn.session, role=role, text=text, persona=turn.persona)
                messages.append((message, parents))
                self.last_message = message.id
        return messages

    def write(self, write: Coroutine[Any, Any, None]) -> None:
        """Do one write to the store beside the conversation."""
        self._spawn(self._guarded(write), "store")

    async def _guarded(self, write: Coroutine[Any, Any, None]) -> None:
        try:
            await write
        except RoomtoneError as error:
            log.error("%s", error.message)
            self.health = error.message
            self._feed.publish("store.failed", error, source="recorder")
        except Exception as error:  # a text that cannot be kept must not end the voice
            log.exception("the store failed")
            self.health = f"internal error: {error}"
        else:
            self.health = "ok"
