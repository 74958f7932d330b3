"""What a client of the broker wants to be told, and what waits for it: bounded, and in order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from roomtone.core.errors import RoomtoneError

log = logging.getLogger(__name__)

DEPTH = 500
"""Messages that may wait for one subscriber."""

ROOM = 4 * 1024 * 1024
"""Bytes that they may have together."""

SILENT_S = 10.0
"""After a line about a message that is no good nothing more is said of others for so long."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that came: where, what, whether the broker had kept it, and where an answer to it goes.

    ``at`` is the loop's time when it was received. ``waited``: its sender did not say how long it is of use, and the
    broker may have had it for long, since this client was away.
    """

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None
    at: float
    waited: bool = False


Take = Callable[[Inbound], Awaitable[None]]


class Subscription:
    """A filter, who takes what comes under it, and what waits for that."""

    def __init__(self, topic_filter: str, take: Take, no_local: bool) -> None:
        self.filter = topic_filter
        self.no_local = no_local
        self._take = take
        shared = topic_filter.startswith("$share/")
        self._levels = topic_filter.split("/", 2)[2].split("/") if shared else topic_filter.split("/")
        self._waiting: deque[tuple[int, Inbound]] = deque()
        self._bytes = 0
        self._asking: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._behind = False
        self._told_until = 0.0

    def matches(self, topic: str) -> bool:
        """Say whether a topic is under the filter (MQTT 5, section 4.7)."""
        levels = topic.split("/")
        if self._levels[-1] == "#":
            wanted = self._levels[:-1]
            levels = levels[: len(wanted)]
        else:
            wanted = self._levels
        return len(levels) == len(wanted) and all(
            one in ("+", other) for one, other in zip(wanted, levels, strict=True)
        )

    def put(self, inbound: Inbound, qos: int) -> None:
        """Add a message; never waits."""
        self._waiting.append((qos, inbound))
        self._bytes += len(inbound.payload)
        while len(self._waiting) > DEPTH or self._bytes > ROOM:
            self._drop()
        self._news.set()

    def ask(self, taken: Callable[[], None]) -> None:
        """Call ``taken`` once ``serve`` comes to it: at the latest after the message that it is at."""
        self._asking.append(taken)
        self._news.set()

    def _answer(self) -> None:
        asking, self._asking = self._asking, []
        for taken in asking:
            taken()

    def _drop(self) -> None:
        if not self._behind:
            self._behind = True
            log.warning("what comes to %s comes faster than it is worked off: some of it is dropped", self.filter)
        index = next((index for index, (qos, _) in enumerate(self._waiting) if qos == 0), 0)
        self._bytes -= len(self._waiting[index][1].payload)
        del self._waiting[index]

    def _tell(self, line: str) -> None:
        """Log what is wrong with a message: whoever sends nothing else must not fill the disk."""
        now = asyncio.get_running_loop().time()
        level = logging.WARNING if now >= self._told_until else logging.DEBUG
        self._told_until = now + SILENT_S if level == logging.WARNING else self._told_until
        log.log(level, "%s", line)

    async def serve(self) -> None:
        """Hand over what comes, one after the other, for as long as this runs."""
        while True:
            await self._news.wait()
            while self._waiting:
                _, inbound = self._waiting.popleft()
                self._bytes -= len(inbound.payload)
                try:
                    await self._take(inbound)
                except RoomtoneError as error:
                    self._tell(f"what came to {inbound.topic} could not be dealt with: {error.message}")
                except Exception:
                    log.exception("what came to %s could not be dealt with", inbound.topic)
                self._answer()
            self._answer()
            self._behind = False
            self._news.clear()
