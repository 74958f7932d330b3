"""Writes what is said beside the conversation, in order; what a full disk refused is written once it can be."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from roomtone.core.dialog import Message, Session, Turn
from roomtone.core.errors import RoomtoneError, StoreError
from roomtone.flow import Feed
from roomtone.store import Store

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
Said = tuple[Message, tuple[str, ...]]
"""A message and the ids of those it follows."""

OWED = 1000
"""Turns that are held in memory while the disk refuses them; about a megabyte."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The last state of a turn, as it is to be kept."""

    turn: Turn
    session: Session
    messages: tuple[Said, ...]


class Writing:
    """Writes through ``spawn``, which runs a coroutine beside the conversation. ``health`` is ``ok`` or the trouble.

    ``owed`` are the turns that have ended and are not kept yet.
    """

    def __init__(self, store: Store, feed: Feed, spawn: Spawn) -> None:
        self.health = "ok"
        self.owed: deque[Closed] = deque(maxlen=OWED)
        self._store = store
        self._feed = feed
        self._spawn = spawn
        self._under_way: set[asyncio.Task[None]] = set()

    def write(self, write: Coroutine[Any, Any, None], *, proves: bool = False) -> asyncio.Task[None]:
        """Do something with the store beside the conversation; ``proves``: if it works, the disk can be written."""
        task = self._spawn(self._guarded(write, proves), "store")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def over(self) -> None:
        """Wait until what was begun is written, or could not be."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def keep(self, turn: Turn, said: list[Said], session: Session | None, durable: bool) -> None:
        """Write a turn as far as it is. Raises StoreError."""
        await self.settle()
        await self._store.save_turn(turn, closed=False, messages=said, session=session, durable=durable)

    async def settle(self) -> None:
        """Write the turns that are owed, in order: a full disk may have refused some. Raises StoreError.

        The end of an answer goes to the disk itself: in the half minute that a file system keeps it back, a power cut
        would make the room believe, and say, that it was cut off in that answer.
        """
        while self.owed:
            first = self.owed[0]
            settled, aloud = True, bool(first.turn.spoken)
            try:
                await self._store.save_turn(
                    first.turn, closed=True, messages=first.messages, session=first.session, durable=aloud
                )
            except StoreError:
                settled = False
                raise
            finally:  # what cannot be kept at all must not hold up the rest
                if settled and self.owed and self.owed[0] is first:
                    self.owed.popleft()

    async def _guarded(self, write: Coroutine[Any, Any, None], proves: bool) -> None:
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
            if proves and self.health != "ok":
                self.health = "ok"
                self._feed.publish("store.back", source="recorder")
